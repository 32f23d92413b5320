"""Putting firmware on a board. These steps may block and run on a flashing device's helper thread.

The application is asked to leave by opening its port at 1200 baud, the convention that pico-sdk's
stdio and pico-ice-sdk follow; the bootloader then shows a drive that takes a UF2 file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import termios
from pathlib import Path

from icebus.schemas.boards import picoboot, uf2
from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import PICOBOOT
from icebus.schemas.errors import FirmwareInvalid
from icebus.worker.hardware.board import ConnectedBoard

_INPUT_SPEED, _OUTPUT_SPEED = 4, 5
"""Where :mod:`termios` keeps the speeds among the attributes of a port."""

IMAGE_NAME = "ICEBUS.UF2"
"""The bootloader looks at the content only."""


def touch(tty: Path) -> None:
    """Ask the application behind ``tty`` to restart into the bootloader.

    Raises:
        OSError: the port can't be opened.
    """
    port = os.open(tty, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    # The board resets under our hands, so what fails now may mean that it did what was asked.
    with contextlib.suppress(OSError, termios.error):
        attributes = termios.tcgetattr(port)
        attributes[_INPUT_SPEED] = attributes[_OUTPUT_SPEED] = termios.B1200
        termios.tcsetattr(port, termios.TCSANOW, attributes)
    with contextlib.suppress(OSError):
        os.close(port)


def check_family(image: bytes, board: ConnectedBoard) -> None:
    """Refuse an image that is not for this board's chip, before it is copied.

    Raises:
        FirmwareInvalid: not a UF2 file, or one of another family; marker images of the rack's own
            family never go to real boards.
    """
    family = uf2.decode(image).family
    chip = _chip_of(board)
    wanted = chip.rack_family if board.takes_markers else chip.family
    if family != wanted:
        raise FirmwareInvalid(
            f"the image is of family 0x{family:08X}, but the board at {board.path} "
            f"({chip}) takes 0x{wanted:08X}",
            family=family,
            wanted=wanted,
        )


def copy(image: bytes, board: ConnectedBoard) -> None:
    """Copy ``image`` to the bootloader's drive and see it through to the medium.

    Raises:
        OSError: the drive is gone, full or not writable.
    """
    with (_drive_of(board) / IMAGE_NAME).open("wb") as file:
        file.write(image)
        file.flush()
        # The board may reboot at the last block, before the sync is answered.
        with contextlib.suppress(OSError):
            os.fsync(file.fileno())


def reboot(board: ConnectedBoard) -> None:
    """Ask the bootloader to start the application.

    A real one takes the command on the bulk endpoint of its PICOBOOT interface; a virtual one shows
    that as a file of its drive.

    Raises:
        OSError: the bootloader is gone.
    """
    command = picoboot.reboot(_chip_of(board))
    place = _drive_of(board) / PICOBOOT
    with place.open("wb") as file:
        file.write(command)


def _chip_of(board: ConnectedBoard) -> Chip:
    if board.chip is None:  # every bootloader says it by its product id
        raise FirmwareInvalid(f"the chip of the board at {board.path} is not known")
    return board.chip


def _drive_of(board: ConnectedBoard) -> Path:
    if board.drive is None:
        raise FileNotFoundError(errno.ENOENT, "the bootloader shows no drive")
    return board.drive
