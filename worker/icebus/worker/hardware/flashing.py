"""Putting firmware on a board. These steps may block and run on a flashing device's helper thread.

The application is asked to leave by opening its port at 1200 baud, the convention that pico-sdk's
stdio, pico-ice-sdk and our own firmware follow. Our firmware has a request for it, too, but the
touch needs neither a conversation in step nor a firmware that is known: it is the one way for all.
"""

from __future__ import annotations

import contextlib
import os
import termios
from pathlib import Path

from icebus.schemas.boards import uf2
from icebus.schemas.boards.firmware import read_marker
from icebus.schemas.errors import FirmwareInvalid
from icebus.worker.hardware.board import ConnectedBoard
from icebus.worker.hardware.bootloaders.bootloader import StepLimit
from icebus.worker.hardware.bootloaders.choose import AnyWay

_INPUT_SPEED, _OUTPUT_SPEED = 4, 5
"""Where :mod:`termios` keeps the speeds among the attributes of a port."""


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


def check_image(image: bytes, board: ConnectedBoard) -> str:
    """Refuse an image that is not for this board, before anything is erased.

    The chip of a board in its bootloader is what the USB id of that bootloader says; whoever opens
    it looks at the id again.

    Returns:
        The version that the board must say once it runs the image; empty where that is not known,
        as of boards that are given nothing but a name.

    Raises:
        FirmwareInvalid: not a UF2 file, of another family (marker images of the rack's own family
            never go to real boards), made for another chip, or not for the start of the flash.
    """
    decoded = uf2.decode(image)
    chip = board.chip
    if chip is None:  # of an application that does not say; a bootloader's USB id always does
        raise FirmwareInvalid(f"the chip of the board at {board.path} is not known")
    wanted = chip.rack_family if board.takes_markers else chip.family
    if decoded.family != wanted:
        raise FirmwareInvalid(
            f"the image is of family 0x{decoded.family:08X}, but the board at {board.path} "
            f"({chip}) takes 0x{wanted:08X}",
            family=decoded.family,
            wanted=wanted,
        )
    if decoded.address != uf2.FLASH_ADDRESS or len(decoded.payload) > uf2.FLASH_SIZE:
        raise FirmwareInvalid(
            f"the image is {len(decoded.payload)} bytes for {decoded.address:#010x}; boards start "
            f"what is at {uf2.FLASH_ADDRESS:#010x} and have {uf2.FLASH_SIZE >> 20} MiB there"
        )
    marker = read_marker(decoded.payload)
    if marker is not None and marker.chip is not chip:
        raise FirmwareInvalid(
            f"the image is {marker.name} for {marker.chip}, but the board at {board.path} is an "
            f"{chip}"
        )
    return "" if marker is None or board.takes_markers else marker.version


def flash(image: bytes, board: ConnectedBoard, limit: StepLimit) -> None:
    """Give the bootloader of ``board`` an image that was checked, and have it started.

    Raises:
        BootloaderFailed: it is there and did not take it, or can't be reached.
        OSError: it went away, perhaps because it has started what it was given.
    """
    AnyWay(board).flash(image, limit)


def reboot(board: ConnectedBoard, limit: StepLimit) -> None:
    """Ask the bootloader to start the application.

    Raises:
        BootloaderFailed: it refused, or can't be reached.
        OSError: it is gone.
    """
    AnyWay(board).reboot(limit)
