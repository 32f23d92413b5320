"""Where images of real boards are kept: UF2 files that say in their content what they are.

Names of files mean nothing. Of several images of one firmware for one chip the newest version is
taken; a folder that ``ICEBUS_FIRMWARE`` names goes before what came with the package.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

import icebus
from icebus.schemas.boards import uf2
from icebus.schemas.boards.firmware import Chip, FirmwareMarker, read_marker
from icebus.schemas.errors import FirmwareInvalid

VARIABLE: Final = "ICEBUS_FIRMWARE"
"""Names folders of images, separated as those of ``PATH`` are."""

PACKAGED: Final = Path("worker", "firmware", "images")
"""Within the package: where ``script/firmware --install`` puts what it has built."""

_LARGEST: Final = uf2.FLASH_SIZE // uf2.PAGE_SIZE * uf2.BLOCK_SIZE + uf2.BLOCK_SIZE


@dataclass(frozen=True)
class FirmwareImage:
    """An image for real boards.

    Attributes:
        path: the file.
        marker: what it says of itself.
        data: the whole UF2 file.
    """

    path: Path
    marker: FirmwareMarker
    data: bytes = field(repr=False)


def directories(
    environment: Mapping[str, str] = os.environ, configured: Sequence[Path] = ()
) -> list[Path]:
    """The folders where images are looked for, first the one that goes before all others.

    Args:
        environment: may name folders.
        configured: those that count where it does not.
    """
    named = [Path(each) for each in environment.get(VARIABLE, "").split(os.pathsep) if each]
    return (named or [each.resolve() for each in configured]) + [
        Path(root) / PACKAGED for root in icebus.__path__
    ]


def read_images(where: Iterable[Path]) -> Iterator[FirmwareImage]:
    """The images in folders, those that are to be preferred first; what is no image is left out."""
    for folder in where:
        found = [_read(path) for path in sorted(folder.glob("*.uf2"))]
        images = [image for image in found if image is not None]
        yield from sorted(images, key=lambda image: _rank(image.marker.version), reverse=True)


def find_image(name: str, chip: Chip, where: Iterable[Path] | None = None) -> FirmwareImage | None:
    """The image of that firmware for boards with that chip, if there is one."""
    for image in read_images(directories() if where is None else where):
        if (image.marker.name, image.marker.chip) == (name, chip):
            return image
    return None


def is_newer(version: str, than: str) -> bool:
    """Whether a version is later than another, by the numbers in them; of the same is not."""
    return _rank(version) > _rank(than)


def _read(path: Path) -> FirmwareImage | None:
    try:
        about = path.stat()
        if about.st_size > _LARGEST:
            return None
        return _parse(path, about.st_mtime_ns, about.st_size)
    except OSError:
        return None


@lru_cache(maxsize=32)
def _parse(path: Path, _changed: int, _size: int) -> FirmwareImage | None:
    """The image in a file, read again when it has changed."""
    data = path.read_bytes()
    try:
        decoded = uf2.decode(data)
    except FirmwareInvalid:
        return None
    marker = read_marker(decoded.payload)
    if marker is None or decoded.family != marker.chip.family:
        return None
    return FirmwareImage(path, marker, data)


def _rank(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]
