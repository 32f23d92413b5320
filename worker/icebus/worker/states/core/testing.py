"""Finding out what a board runs, and that it lives and is idle."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from icebus.schemas.devices import DeviceState
from icebus.worker.device.lifecycle import preparing_or
from icebus.worker.states.core.state import CoreState

if TYPE_CHECKING:
    from icebus.schemas.boards.firmware import Chip
    from icebus.worker.firmware import Firmware, Probe
    from icebus.worker.hardware.port import Port
    from icebus.worker.loop import Callback, Timer

LISTEN = 2.5
"""Seconds to listen to a board that may say by itself what it runs: some firmware repeats its name,
and an upload that somebody left unfinished ends with a line of the pulse-count firmware's watchdog
after 2 s."""


class Testing(CoreState):
    """Listens, and if the board says nothing, has each firmware that is silent ask it in turn.

    Args:
        reported: as what this appears on the bus: testing, preparing, or releasing for a board
            that was just at work and only needs to become idle.
        expect: the firmware it must turn out to run; None when any known one will do.
        reason: why it is tested, where something was wrong with it.
        version: of the firmware expected, if it is known and the firmware says which it is.
    """

    def __init__(
        self,
        reported: DeviceState,
        expect: str | None = None,
        reason: str = "",
        version: str = "",
    ) -> None:
        super().__init__()
        self.reported = reported
        self.reason = reason
        self._expect = expect
        self._version = version
        self._probes: dict[str, Probe] = {}
        self._to_ask: list[Firmware] = []
        self._recognised = ""

    def on_enter(self) -> None:
        """Have a probe of each firmware, that of the one expected first."""
        known = self.device.known_firmware.values()
        firmware = sorted(known, key=lambda each: each.name != self._expect)
        self._probes = {each.name: each.test(_ProbedBoard(self, each)) for each in firmware}
        self._to_ask = [each for each in firmware if each.silent]

    def on_add(self, port: Port) -> None:
        """Listen, or speak first to a firmware that is known to be silent."""
        expected = next((each for each in self._to_ask if each.name == self._expect), None)
        busy = self.reported is DeviceState.RELEASING
        if expected is not None and (expected.answers_while_busy or not busy):
            self._ask_next()
        else:
            self.after(LISTEN, self._ask_next)

    def on_desired(self) -> None:
        """The work goes on; it may now be for a reservation."""
        if self.reported is not DeviceState.RELEASING:
            self.reported = preparing_or(self.device.desired, self.reported)

    def on_data(self, data: bytes) -> None:
        """Look for what gives a firmware away."""
        for probe in self._probes.values():
            probe.receive(data)
            if not self.alive:
                return

    def _ask_next(self) -> None:
        port = self.device.port
        if self._recognised or port is None:
            return
        if not self._to_ask:
            self.device.unrecognised()
            return
        if port.sending:  # the board does not take what it was asked before
            port.discard()
        firmware = self._to_ask.pop(0)
        self._probes[firmware.name].ask()
        self.after(firmware.answers_within, self._ask_next)

    # --- what probes find -----------------------------------------------------------------------

    def recognised(self, firmware: Firmware) -> None:
        """Only ``firmware`` says such a thing: it must become idle in time."""
        if not self._recognised:
            self._recognised = firmware.name
            self.after(firmware.answers_within, partial(self._not_idle, firmware.answers_within))

    def passed(self, firmware: Firmware, version: str) -> None:
        """The board runs ``firmware`` and is idle."""
        if self._expect is not None and firmware.name != self._expect:
            self.device.fail(f"flashed with {self._expect} but runs {firmware.name}")
        elif self._version and version and version != self._version:
            self.device.fail(
                f"flashed with {firmware.name} {self._version} but runs {firmware.name} {version}"
            )
        else:
            self.device.proved(firmware.name, version)

    def _not_idle(self, seconds: float) -> None:
        runs = self._recognised or self._expect
        self.device.fail(f"runs {runs} but was not idle within {seconds:.0f} s")


@dataclass(frozen=True)
class _ProbedBoard:
    """The board for the probe of one firmware."""

    _state: Testing
    _firmware: Firmware

    @property
    def port(self) -> Port | None:
        return self._state.device.port

    @property
    def chip(self) -> Chip | None:
        board = self._state.device.board
        return board.chip if board is not None else None

    def after(self, seconds: float, callback: Callback) -> Timer:
        return self._state.after(seconds, callback)

    def recognised(self) -> None:
        self._state.recognised(self._firmware)

    def passed(self, version: str = "") -> None:
        if self._state.alive:
            self._state.passed(self._firmware, version)

    def failed(self, reason: str) -> None:
        if self._state.alive:
            self._state.device.fail(reason)
