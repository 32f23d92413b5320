"""What a firmware image says of itself, in its content.

A marker in the image's flash content names the firmware; file names are never believed. The rack's
images are nothing but a marker in a true UF2 file, under a family that real bootloaders refuse. A
real firmware may carry the same marker anywhere in its flash.
"""

from __future__ import annotations

import struct
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from icebus.schemas.boards import uf2

MAGIC: Final = b"icebus-firmware\0"
"""Starts a marker; followed by the length (u32, little-endian) of the JSON after it."""

MAX_MARKER_SIZE: Final = 1024
"""Longest JSON of a marker; more is taken for chance bytes after the magic."""

_LENGTH: Final = struct.Struct("<I")
_BOOT_STAGE: Final = bytes(uf2.PAGE_SIZE)


class Chip(StrEnum):
    """The microcontroller of a board."""

    RP2040 = "rp2040"
    RP2350 = "rp2350"

    @property
    def family(self) -> int:
        """The UF2 family of real images for this chip."""
        return {Chip.RP2040: uf2.RP2040, Chip.RP2350: uf2.RP2350_ARM}[self]

    @property
    def rack_family(self) -> int:
        """The UF2 family of marker images for virtual boards with this chip."""
        return {Chip.RP2040: uf2.RACK_RP2040, Chip.RP2350: uf2.RACK_RP2350}[self]


class FirmwareMarker(BaseModel):
    """Names the firmware in an image."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_]{0,63}$", description="Which firmware, such as pulse_count."
    )
    version: str = Field(
        default="0", pattern=r"^[0-9A-Za-z.+-]{1,64}$", description="Version of the firmware."
    )
    chip: Chip = Field(description="The chip that the image was made for.")


def marker_bytes(marker: FirmwareMarker) -> bytes:
    """The marker as it lies in flash, for embedding into an image."""
    body = marker.model_dump_json().encode("ascii")
    return MAGIC + _LENGTH.pack(len(body)) + body


def marker_image(marker: FirmwareMarker) -> bytes:
    """A UF2 file for virtual boards with that chip: a page where a boot stage goes, the marker."""
    payload = _BOOT_STAGE + marker_bytes(marker)
    return uf2.encode(payload, marker.chip.rack_family, uf2.FLASH_ADDRESS)


def read_marker(payload: bytes) -> FirmwareMarker | None:
    """The first marker anywhere in flash content, or ``None``: an image that we know nothing of."""
    start = payload.find(MAGIC)
    while start >= 0:
        body = start + len(MAGIC) + _LENGTH.size
        if body <= len(payload):
            (length,) = _LENGTH.unpack_from(payload, body - _LENGTH.size)
            if length <= min(MAX_MARKER_SIZE, len(payload) - body):
                try:
                    return FirmwareMarker.model_validate_json(payload[body : body + length])
                except ValidationError:
                    pass
        start = payload.find(MAGIC, start + 1)
    return None
