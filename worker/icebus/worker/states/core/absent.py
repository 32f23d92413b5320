"""The board is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icebus.schemas.devices import DeviceState
from icebus.worker.states.core.state import CoreState

if TYPE_CHECKING:
    from icebus.worker.hardware.board import ConnectedBoard
    from icebus.worker.hardware.port import Port

REOPEN_AFTER = 1.0
"""Seconds after which a port that failed is opened again, if the board never left the bus."""

HELD_LONGEST = 5.0
"""Seconds at most between tries to open a port that somebody else has locked."""

REOPENS = 5
"""Then a board that is on the bus without a port that opens is not absent but broken."""


class Absent(CoreState):
    """Waits for the board to come back."""

    reported = DeviceState.ABSENT
    outlives_port = True

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason
        self._reopened = 0
        self._pause = REOPEN_AFTER

    def on_enter(self) -> None:
        """Look whether it was only the port that failed."""
        self.after(REOPEN_AFTER, self._reopen)

    def on_add(self, port: Port) -> None:
        """It is back: see what it runs."""
        self.device.found()

    def on_held(self, why: str) -> None:
        """Somebody else has locked its port: wait until they are gone, and leave the board alone.

        Whoever holds it may be at work with it, so it is not to be rebooted.
        """
        self._reopened = 0
        self._pause = min(2 * self._pause, HELD_LONGEST)
        self.reason = why

    def on_bootloader(self, board: ConnectedBoard) -> None:
        """It is back without an application: give it one."""
        self.device.fail("the board came back in its bootloader")

    def _reopen(self) -> None:
        self.after(self._pause, self._reopen)
        if self.device.board is None:
            self._reopened, self._pause = 0, REOPEN_AFTER
        elif self.device.port is None:
            self._reopened += 1
            if self._reopened > REOPENS:
                self.device.fail(self.reason)
            else:
                self.device.open()
