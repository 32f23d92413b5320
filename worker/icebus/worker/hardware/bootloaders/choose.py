"""Which way leads to a board's bootloader: the first that works, of those that are there."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from icebus.worker.hardware.board import ConnectedBoard
from icebus.worker.hardware.bootloaders import libusb, picotool
from icebus.worker.hardware.bootloaders.bootloader import (
    Bootloader,
    BootloaderUnreachable,
    StepLimit,
)
from icebus.worker.hardware.bootloaders.drive import (
    MountedDrive,
    RackDrive,
    mounted_drive,
)
from icebus.worker.hardware.bootloaders.picoboot import Picoboot

log = logging.getLogger(__name__)


def ways(board: ConnectedBoard) -> Iterator[Bootloader]:
    """The ways to the bootloader of ``board`` that there are, best first.

    Raises:
        OSError: a board of a rack shows no drive.
        BootloaderUnreachable: it is not known which chip this is.
    """
    if board.chip is None:  # a bootloader's USB id says it, so this is none
        raise BootloaderUnreachable(f"the chip of the board at {board.path} is not known")
    if board.virtual:
        if board.drive is None:
            raise FileNotFoundError(errno.ENOENT, "the bootloader shows no drive")
        yield RackDrive(board.drive, board.chip)
        return
    if libusb.is_available():
        yield Picoboot(partial(libusb.connect, board.path, board.chip), board.chip)
    program = picotool.find()
    if program is not None:
        yield picotool.Picotool(board.path, program)
    drive = board.drive or mounted_drive(board.path)
    if drive is not None:
        yield MountedDrive(drive)


class AnyWay:
    """The bootloader of a board by the first way that leads there.

    Args:
        board: whose.
        found: gives the ways to it, best first.
    """

    def __init__(
        self,
        board: ConnectedBoard,
        found: Callable[[ConnectedBoard], Iterator[Bootloader]] = ways,
    ) -> None:
        self._board = board
        self._found = found

    def flash(self, image: bytes, limit: StepLimit) -> None:
        """As the first way that leads there does it."""
        self._first(lambda way: way.flash(image, limit))

    def reboot(self, limit: StepLimit) -> None:
        """As the first way that leads there does it."""
        self._first(lambda way: way.reboot(limit))

    def _first(self, step: Callable[[Bootloader], None]) -> None:
        reasons = []
        for way in self._found(self._board):
            try:
                step(way)
            except BootloaderUnreachable as error:
                reasons.append(str(error))
            else:
                log.debug("%s: went by %s", self._board.path, type(way).__name__)
                return
        raise BootloaderUnreachable(_summary(self._board.path, reasons))


def _summary(path: str, reasons: Sequence[str]) -> str:
    if reasons:
        return "; ".join(reasons)
    return (
        f"nothing here can talk to the bootloader at USB port {path}: {libusb.install_advice()}; "
        "`icebus doctor` tells more"
    )
