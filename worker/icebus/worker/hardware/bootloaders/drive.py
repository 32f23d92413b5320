"""Bootloaders that show a drive: of the rack, and of real boards where something mounts it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from icebus.schemas.boards import picoboot
from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import DRIVE_FILES, PICOBOOT
from icebus.worker.hardware.bootloaders.bootloader import BootloaderUnreachable, StepLimit

IMAGE_NAME = "ICEBUS.UF2"
"""The bootloader looks at the content only."""

SYSFS_DEVICES = Path("/sys/bus/usb/devices")
MOUNTS = Path("/proc/self/mounts")

_PIECE = 64 << 10
_ESCAPED = re.compile(r"\\([0-7]{3})")


class RackDrive:
    """The bootloader of a board in a rack's folder: a file on its drive, or a command as one.

    Args:
        drive: the folder that stands for it.
        chip: of the board.
    """

    def __init__(self, drive: Path, chip: Chip) -> None:
        self._drive = drive
        self._chip = chip

    def flash(self, image: bytes, limit: StepLimit) -> None:
        """Copy the image."""
        copy(image, self._drive, limit)

    def reboot(self, limit: StepLimit) -> None:
        """Leave the command where a real one would take it from its PICOBOOT interface."""
        with (self._drive / PICOBOOT).open("wb") as file:
            file.write(picoboot.reboot(self._chip).pack(1))


class MountedDrive:
    """The drive of a real bootloader, where a desktop or an administrator has mounted it.

    A copy that is cut short leaves a board whose flash is part old, part new, so this is the last
    way to be chosen.

    Args:
        drive: where it is mounted.
    """

    def __init__(self, drive: Path) -> None:
        self._drive = drive

    def flash(self, image: bytes, limit: StepLimit) -> None:
        """Copy the image, once it is sure that this is a bootloader's drive."""
        if not all((self._drive / name).is_file() for name in DRIVE_FILES):
            raise BootloaderUnreachable(f"{self._drive} is not a bootloader's drive")
        if not os.access(self._drive, os.W_OK):
            raise BootloaderUnreachable(f"{self._drive} may not be written to by this user")
        copy(image, self._drive, limit)

    def reboot(self, limit: StepLimit) -> None:
        """A drive takes firmware and nothing else."""
        raise BootloaderUnreachable("a mounted drive can't restart a board")


def copy(image: bytes, drive: Path, limit: StepLimit) -> None:
    """Copy ``image`` to a bootloader's drive and see it through to the medium.

    Raises:
        OSError: the drive is gone, full or not writable.
        BootloaderFailed: nobody waits any more.
    """
    with (drive / IMAGE_NAME).open("wb") as file:
        for start in range(0, len(image), _PIECE):
            limit.check()
            file.write(image[start : start + _PIECE])
        file.flush()
        # The board may reboot at the last block, before the sync is answered.
        with contextlib.suppress(OSError):
            os.fsync(file.fileno())


def mounted_drive(path: str, devices: Path = SYSFS_DEVICES, mounts: Path = MOUNTS) -> Path | None:
    """Where the drive of the USB device at a port path is mounted, if it is.

    Args:
        path: USB port path.
        devices: where Linux shows USB devices.
        mounts: where it lists mounts.
    """
    disks = {f"/dev/{block.name}" for block in _disks(devices / path)}
    if not disks:
        return None
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        source, target, *_ = [*line.split(), "", ""]
        # The bootloader's drive has one partition, and a kernel may show either.
        if source in disks or source.rstrip("0123456789") in disks:
            return Path(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), target))
    return None


def _disks(device: Path) -> Iterator[Path]:
    yield from device.glob(f"{device.name}:*/host*/target*/*/block/*")
