"""A board's folder in the rack's directory: what a worker sees of the board."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING, Final

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import (
    BOOT,
    DRIVE_FILES,
    TTY,
    BoardFile,
    is_port,
    remove_board_file,
    write_board_file,
)

if TYPE_CHECKING:
    from pathlib import Path

_LOG = logging.getLogger(__name__)

_REMOVE_ATTEMPTS: Final = 5

# What the bootloaders in ROM say of themselves (RP2040 datasheet 2.8.4, RP2350 datasheet 5.5).
_INFO: Final = {
    Chip.RP2040: "UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: RPI-RP2\r\n",
    Chip.RP2350: "UF2 Bootloader v1.0\r\nModel: Raspberry Pi RP2350\r\nBoard-ID: RP2350\r\n",
}
_INDEX: Final = "<html><body>A virtual board of icebus: copy a UF2 file here.</body></html>\r\n"


class BoardFolder:
    """The folder of the board at one port; exists while the board is enumerated.

    Args:
        directory: the rack's.
        port: the USB port path, which names the folder.
    """

    def __init__(self, directory: Path, port: str) -> None:
        self.path = directory / port
        self.drive = self.path / BOOT

    def make_tty(self, target: str) -> None:
        """Make the folder with the serial port in it."""
        self.path.mkdir(parents=True, exist_ok=True)
        tty = self.path / TTY
        tty.unlink(missing_ok=True)
        tty.symlink_to(target)

    def make_drive(self, chip: Chip) -> None:
        """Make the folder with the bootloader's drive in it."""
        self.drive.mkdir(parents=True, exist_ok=True)
        for name, text in zip(DRIVE_FILES, (_INDEX, _INFO[chip]), strict=True):
            (self.drive / name).write_text(text, encoding="ascii")

    def commit(self, board: BoardFile) -> None:
        """Let the worker see the board."""
        write_board_file(self.path, board)

    def retract(self) -> None:
        """Let the worker see that the board is absent; the rest of the folder is still there."""
        remove_board_file(self.path)

    def remove(self) -> None:
        """Remove the folder."""
        self.retract()
        for _ in range(_REMOVE_ATTEMPTS):  # somebody may be writing to the drive meanwhile
            shutil.rmtree(self.path, ignore_errors=True)
            if not self.path.exists():
                return
        _LOG.error("can't remove %s", self.path)


def remove_stale(directory: Path) -> None:
    """Remove the folders that a killed rack has left."""
    for path in directory.iterdir():
        if is_port(path.name) and path.is_dir() and not path.is_symlink():
            _LOG.info("removing what a killed rack left: %s", path)
            BoardFolder(directory, path.name).remove()
