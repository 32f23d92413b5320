"""The board is proved and idle."""

from __future__ import annotations

import zlib

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.devices import DeviceState
from icebus.worker.firmware import Probe
from icebus.worker.hardware.port import Port
from icebus.worker.states.core.state import CoreState


class Ready(CoreState):
    """Waits for a reservation, and has its firmware check now and then that the board answers.

    Args:
        firmware: what the board was proved to run.
        check_every: seconds from one check to the next, about; 0 for never.
    """

    reported = DeviceState.READY
    commandable = True

    def __init__(self, firmware: str, check_every: float) -> None:
        super().__init__()
        self._firmware = firmware
        self._check_every = check_every
        self._check: Probe | None = None
        self._checking = False

    @property
    def check_under_way(self) -> Probe | None:
        """The check that the board has not answered yet."""
        return self._check if self._checking else None

    def on_enter(self) -> None:
        """Set the alarm for the first check."""
        self._check = self.device.known_firmware[self._firmware].idle_check(self)
        self._wait()

    def on_desired(self) -> None:
        """Begin to serve."""
        self.device.become_desired()

    def on_data(self, data: bytes) -> None:
        """It may be an answer, or a line of firmware that speaks by itself."""
        if self._check is not None:
            self._check.receive(data)

    def _wait(self) -> None:
        if self._check_every:
            self.after(self._check_every * interval_factor(self.device.name), self._ask)

    def _ask(self) -> None:
        if self._check is not None:
            self._checking = True
            self._check.ask()

    # --- for the check --------------------------------------------------------------------------

    @property
    def port(self) -> Port | None:
        """The board's serial port, while that is open."""
        return self.device.port

    @property
    def chip(self) -> Chip | None:
        """The board's microcontroller."""
        return self.device.board.chip if self.device.board is not None else None

    def recognised(self) -> None:
        """It runs what it ran before."""

    def passed(self, version: str = "") -> None:
        """It is idle still: check again later."""
        self._checking = False
        self._wait()

    def failed(self, reason: str) -> None:
        """It must be looked at."""
        if self.alive:  # a check may fail in two ways
            self.device.fail(f"while idle, {reason}")


def interval_factor(name: str) -> float:
    """Between 0.5 and 1.5, for each device its own: they are not to be checked all at once."""
    return 0.5 + zlib.crc32(name.encode()) / 2**32
