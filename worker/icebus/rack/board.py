"""A virtual board: flash content, and what runs on the chip now.

::

    absent --enumerate--> application --1200 baud--> absent --enumerate--> bootloader
       ^                                                                        |
       +-------------------------------- a valid image -------------------------+
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final

from icebus.rack.application import Application
from icebus.rack.bootloader import Bootloader
from icebus.rack.firmware import Reset, Restart, firmware_of
from icebus.rack.folder import BoardFolder
from icebus.schemas.boards.firmware import Chip, FirmwareMarker, marker_image, read_marker
from icebus.schemas.boards.rack import (
    BOOTLOADER,
    PICO_APPLICATION,
    PICO_ICE_APPLICATION,
    RP2040_BOOTLOADER_SERIAL,
    BoardFile,
    Fault,
    Mode,
    UsbIdentity,
)
from icebus.schemas.boards.uf2 import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from icebus.rack.emulator.serial_port import EmulatedPort
    from icebus.rack.evaluator import Evaluator
    from icebus.rack.loop import Loop, Timer
    from icebus.rack.settings import BoardSettings
    from icebus.rack.watch import DirectoryWatch
    from icebus.schemas.boards.rack import RackBoard

_LOG = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class RackServices:
    """What all boards of a rack use."""

    directory: Path
    loop: Loop
    watch: DirectoryWatch
    evaluator: Evaluator
    settings: BoardSettings
    slowness: Callable[[], float]


class VirtualBoard:
    """One board. Its USB plug is in from :meth:`plug` until :meth:`unplug`.

    Args:
        spec: which board.
        services: what it shares with the rack's other boards.
        flash: its flash content; by default an image of the firmware that ``spec`` names.
    """

    def __init__(self, spec: RackBoard, services: RackServices, flash: bytes | None = None) -> None:
        self.spec = spec
        self._services = services
        self._flash = _factory_flash(spec) if flash is None else flash
        self._folder = BoardFolder(services.directory, spec.port)
        digest = hashlib.sha256(f"{services.settings.seed}:{spec.serial}".encode()).digest()
        self._fpga_seed = int.from_bytes(digest[:8], "big")
        self._random = Random(self._fpga_seed)
        self._families: Collection[int] = (spec.chip.rack_family, spec.chip.family)
        self._running: Application | EmulatedPort | Bootloader | None = None
        self._absence: Timer | None = None
        self._reset = Reset.POWER

    @property
    def flash(self) -> bytes:
        """What is in flash; it stays when the board is unplugged."""
        return self._flash

    def plug(self) -> None:
        """Put the plug in: the application starts."""
        self._reset = Reset.POWER
        self._enumerate(self._start_application)

    def unplug(self) -> None:
        """Pull the plug."""
        if self._absence is not None:
            self._absence.cancel()
            self._absence = None
        self._vanish()

    def update_fault(self, spec: RackBoard) -> None:
        """Have the fault, or none, that ``spec`` of the same plug says."""
        self.spec = spec
        if isinstance(self._running, Application):
            self._running.set_fault(spec.fault, self._random)

    def _start_application(self) -> None:
        if self.spec.fault is Fault.BOOTLOADER:
            self._start_bootloader()
            return
        marker = read_marker(self._flash)
        services = self._services
        settings = services.settings
        firmware = firmware_of(marker, settings.firmware, self._random, self.spec, self._reset)
        application = Application(
            self.spec.serial,
            services.loop,
            firmware,
            services.evaluator,
            settings,
            self._fpga_seed,
            self._restart,
        )
        self._running = application
        self._folder.make_tty(application.path)
        application.start()
        if self.spec.fault not in (None, Fault.WEDGE):  # that the reset has mended
            application.set_fault(self.spec.fault, self._random)
        usb = (
            PICO_ICE_APPLICATION._replace(product=firmware.product)
            if marker
            else PICO_APPLICATION[self.spec.chip]
        )
        self._commit(Mode.APPLICATION, usb, self.spec.serial)

    def _start_bootloader(self) -> None:
        chip = self.spec.chip
        self._folder.make_drive(chip)
        self._running = Bootloader(
            self._folder.drive,
            chip,
            self._families,
            self._services.watch,
            self._flashed,
            self._reboot_to_application,
        )
        serial = RP2040_BOOTLOADER_SERIAL if chip is Chip.RP2040 else self.spec.serial
        self._commit(Mode.BOOTLOADER, BOOTLOADER[chip], serial)

    def _restart(self, into: Restart) -> None:
        if into is Restart.FIRMWARE:
            self._reboot_to_application()
            return
        self._vanish()
        self._enumerate_after(self._services.settings.absence, self._start_bootloader)

    def _flashed(self, flash: bytes) -> None:
        self._flash = flash
        self._reboot_to_application()

    def _reboot_to_application(self) -> None:
        self._reset = Reset.REQUEST
        self._vanish()
        self._enumerate_after(self._services.settings.absence, self._start_application)

    def _enumerate_after(self, seconds: float, start: Callable[[], None]) -> None:
        loop = self._services.loop
        self._absence = loop.call_at(loop.now() + seconds, partial(self._enumerate, start))

    def _enumerate(self, start: Callable[[], None]) -> None:
        self._absence = None
        try:
            start()
        except OSError:  # no more PTYs, inotify instances or space: these come and go
            _LOG.exception("%s can't enumerate; trying again", self.spec.port)
            self._vanish()
            self._folder.remove()
            self._enumerate_after(_RETRY_SECONDS, start)

    def _vanish(self) -> None:
        """Off the bus. The file goes first: no reader shall open what is no longer there."""
        running, self._running = self._running, None
        if running is None:
            return
        self._folder.retract()
        running.close()
        self._folder.remove()
        _LOG.info("%s (%s) is absent", self.spec.port, self.spec.serial)

    def _commit(self, mode: Mode, usb: UsbIdentity, serial: str) -> None:
        self._folder.commit(
            BoardFile(
                port=self.spec.port,
                serial=serial,
                vid=usb.vid,
                pid=usb.pid,
                product=usb.product,
                chip=self.spec.chip,
                mode=mode,
                session=secrets.token_hex(8),
                tty="tty" if mode is Mode.APPLICATION else None,
                boot="boot" if mode is Mode.BOOTLOADER else None,
                emulated=self.spec.emulated,
                slowness=self._services.slowness() if self.spec.emulated else 1.0,
            )
        )
        _LOG.info("%s (%s) is there: %s", self.spec.port, self.spec.serial, mode.value)


def _factory_flash(spec: RackBoard) -> bytes:
    marker = FirmwareMarker(name=spec.firmware, version="0", chip=spec.chip)
    return decode(marker_image(marker)).payload
