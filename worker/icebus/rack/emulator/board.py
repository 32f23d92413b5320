"""A board of the rack whose chip is emulated.

::

    absent --power--> emulated, not on USB --the firmware enumerates--> application
       ^                      ^                                              |
       |                      +-------------- the firmware restarts ---------+
       |                                                                     |
       +-- a real image -- bootloader <------- it asks for the bootloader ---+

The chip goes to its bootloader by itself, because the firmware has told it to; the bootloader is
the rack's own, and the emulator ends while it runs.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from icebus.rack.board import VirtualBoard
from icebus.rack.emulator.parts import find_parts
from icebus.rack.emulator.process import ENDED, EmulatorProcess
from icebus.rack.emulator.serial_port import EmulatedPort
from icebus.schemas.boards.rack import Fault, Mode, UsbIdentity

if TYPE_CHECKING:
    from icebus.rack.board import RackServices
    from icebus.rack.emulator.process import Event
    from icebus.rack.loop import Timer
    from icebus.schemas.boards.rack import RackBoard

_LOG = logging.getLogger(__name__)

_AGAIN_SECONDS: Final = 1.0
"""Before an emulator that has ended is started again; twice as long each time, up to ..."""

_AGAIN_MOST_SECONDS: Final = 30.0

_ENUMERATION_SECONDS: Final = 30.0
"""After which it is said that the firmware does not show up on USB. Ours takes 2 s; what does not
is no firmware, or has no USB."""


class EmulatedBoard(VirtualBoard):
    """A board that runs what is in its flash.

    Args:
        spec: which board.
        services: what it shares with the rack's other boards.
        flash: its flash content; by default the firmware of icebus.

    Raises:
        ProgramMissing: something that emulating needs is not installed.
    """

    def __init__(self, spec: RackBoard, services: RackServices, flash: bytes | None = None) -> None:
        self._parts = find_parts()
        super().__init__(spec, services, self._parts.flash if flash is None else flash)
        self._families = (spec.chip.family,)
        self._emulator: EmulatorProcess | None = None
        self._port: EmulatedPort | None = None
        self._overdue: Timer | None = None
        self._again = _AGAIN_SECONDS

    def unplug(self) -> None:
        """Pull the plug."""
        super().unplug()
        self._end_emulator()

    def update_fault(self, spec: RackBoard) -> None:
        """Have the fault, or none, that ``spec`` of the same plug says."""
        self.spec = spec
        self._stand_still(spec.fault is Fault.HANG)

    def _start_application(self) -> None:
        if self.spec.fault is Fault.BOOTLOADER:
            self._start_bootloader()
            return
        loop = self._services.loop
        self._emulator = EmulatorProcess(
            loop, self._parts, self._flash, self.spec.serial, self._on_event
        )
        self._overdue = loop.call_at(loop.now() + _ENUMERATION_SECONDS, self._say_overdue)
        _LOG.info("%s: emulator started, process %s", self.spec.port, self._emulator.pid)

    def _on_event(self, event: Event) -> None:
        what = event["event"]
        if what == "application":
            self._enumerated(event)
        elif what == "data" and self._port is not None:
            self._port.received(event["data"])
        elif what == "taken" and self._port is not None:
            self._port.taken(event["bytes"])
        elif what == "closed" and self._port is not None:
            self._port.emulator_closed()
        elif what == "restarting":
            _LOG.info("%s: the firmware restarts", self.spec.port)
            self._vanish()
        elif what == "bootloader":
            self._end_emulator()
            self._vanish()
            self._enumerate_after(self._services.settings.absence, self._start_bootloader)
        elif what == ENDED:
            self._emulator_ended(event["code"])
        elif what == "configured" and event["unknown"]:
            _LOG.warning(
                "%s: CDONE stays low, as nobody knows what the circuit does: %s",
                *(self.spec.port, event["note"]),
            )

    def _enumerated(self, device: Event) -> None:
        emulator, loop = self._emulator, self._services.loop
        if emulator is None:
            return
        self._cancel_overdue()
        self._again = _AGAIN_SECONDS
        port = EmulatedPort(loop, emulator.send)
        self._running = self._port = port
        self._folder.make_tty(port.path)
        port.start()
        usb = UsbIdentity(device["vendor"], device["product_id"], device["product"])
        self._commit(Mode.APPLICATION, usb, device["serial"])
        self._stand_still(self.spec.fault is Fault.HANG)

    def _emulator_ended(self, code: int) -> None:
        """As if the power had gone: the board vanishes, and starts again by and by."""
        _LOG.error(
            "%s: its emulator ended (%s); starting it again in %g s",
            *(self.spec.port, code, self._again),
        )
        self._end_emulator()
        self._vanish()
        self._enumerate_after(self._again, self._start_application)
        self._again = min(2 * self._again, _AGAIN_MOST_SECONDS)

    def _vanish(self) -> None:
        self._port = None
        super()._vanish()

    def _end_emulator(self) -> None:
        self._cancel_overdue()
        if self._emulator is not None:
            self._emulator.close()
            self._emulator = None

    def _stand_still(self, wanted: bool) -> None:
        if self._emulator is not None:
            self._emulator.send("pause" if wanted else "resume")

    def _say_overdue(self) -> None:
        _LOG.warning(
            "%s: what is in its flash does not show up on USB; unplug the board, or have it start "
            "its bootloader: icebus-rack fault %s bootloader",
            *(self.spec.port, self.spec.port),
        )

    def _cancel_overdue(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
