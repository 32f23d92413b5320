"""A board's bootloader: a drive that takes UF2 files, and a PICOBOOT interface that reboots."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Final

from icebus.schemas.boards import picoboot, uf2
from icebus.schemas.boards.rack import DRIVE_FILES, PICOBOOT
from icebus.schemas.errors import FirmwareInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from icebus.rack.watch import DirectoryWatch
    from icebus.schemas.boards.firmware import Chip

_LOG = logging.getLogger(__name__)

_FILE_MAX: Final = uf2.FLASH_SIZE // uf2.PAGE_SIZE * uf2.BLOCK_SIZE


class Bootloader:
    """Waits for a file on ``drive`` that is a whole image for ``chip``, or a command to reboot.

    Others are refused: a real bootloader drops them without a word, here they are removed too.

    Args:
        drive: the folder to watch.
        chip: whose bootloader it is.
        families: those of the images that are taken.
        watch: notices files.
        on_flashed: called with the flash content.
        on_reboot: called when it is to start what is in flash.
    """

    def __init__(
        self,
        drive: Path,
        chip: Chip,
        families: Collection[int],
        watch: DirectoryWatch,
        on_flashed: Callable[[bytes], None],
        on_reboot: Callable[[], None],
    ) -> None:
        self._drive = drive
        self._chip = chip
        self._families = families
        self._watch = watch
        self._on_flashed = on_flashed
        self._on_reboot = on_reboot
        self._handle = watch.add(drive, self._copied)
        self._closed = False

    def close(self) -> None:
        """Stop watching; before the drive is removed."""
        if not self._closed:
            self._closed = True
            self._watch.remove(self._handle)

    def _copied(self, path: Path, finished: bool) -> None:
        if self._closed or path.name in DRIVE_FILES or path.parent != self._drive:
            return
        try:
            with path.open("rb") as file:
                data = file.read(_FILE_MAX + 1)
            if path.name == PICOBOOT and picoboot.is_reboot(data, self._chip):
                self._on_reboot()
                return
            payload = image_for(data, self._families)
        except FileNotFoundError:
            return
        except (OSError, FirmwareInvalid) as error:
            if not finished:
                return  # its writer has more to come
            _LOG.warning("%s refused: %s", path, error)
            with contextlib.suppress(OSError):
                path.unlink()
            return
        self._on_flashed(payload)


def image_for(data: bytes, families: Collection[int]) -> bytes:
    """The flash content that a UF2 file gives a board that takes images of those families.

    Raises:
        FirmwareInvalid: not a UF2 file, or not one for flash, or for another chip.
    """
    image = uf2.decode(data)
    if image.family not in families:
        raise FirmwareInvalid(f"This board takes no images of family {image.family:#010x}.")
    if image.address != uf2.FLASH_ADDRESS or len(image.payload) > uf2.FLASH_SIZE:
        raise FirmwareInvalid("This image is not for the start of the flash, or does not fit.")
    return image.payload
