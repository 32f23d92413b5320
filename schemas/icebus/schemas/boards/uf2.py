"""UF2, the file format that a board's bootloader takes firmware in.

Source: the UF2 specification (github.com/microsoft/uf2). A file is a sequence of blocks of 512
bytes, each with its own address, number and family, little-endian. The families of the real chips
are those of the RP2040 datasheet (section 2.8.4) and of the RP2350 datasheet (section 5.5.3). The
codec is pure and strict: what isn't entirely right raises
:class:`~icebus.schemas.errors.FirmwareInvalid`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from icebus.schemas.errors import FirmwareInvalid

RP2040: Final = 0xE48BFF56
"""Family of an RP2040 image."""

RP2350_ARM: Final = 0xE48BFF59
"""Family of an RP2350 Arm (secure) image."""

ABSOLUTE: Final = 0xE48BFF57
"""Family of blocks that an RP2350 would write wherever they say. No image of ours has it, but
picotool puts one such block before each image (see :func:`decode`)."""

RACK_RP2040: Final = 0x1CEB2040
"""Family of a marker image for the rack's virtual RP2040 boards; no real bootloader takes it."""

RACK_RP2350: Final = 0x1CEB2350
"""Family of a marker image for the rack's virtual RP2350 boards; no real bootloader takes it."""

FLASH_ADDRESS: Final = 0x1000_0000
"""Where both chips map their flash (XIP base), and so where an image starts."""

FLASH_SIZE: Final = 4 << 20
"""Bytes of flash on both boards (PICO_FLASH_SIZE_BYTES of their headers in pico-sdk)."""

BLOCK_SIZE: Final = 512
"""Bytes of a block; a USB mass-storage sector, so that a drive sees whole blocks."""

PAGE_SIZE: Final = 256
"""Payload bytes of a block; a flash page, the only size that the RP bootloaders take."""

_MAGIC_START: Final = (0x0A324655, 0x9E5D5157)
_MAGIC_END: Final = 0x0AB16F30
_HEADER: Final = struct.Struct("<8I")
_FOOTER: Final = struct.Struct("<I")
_DATA_SIZE: Final = BLOCK_SIZE - _HEADER.size - _FOOTER.size
_WORD: Final = struct.Struct("<I")

_FLAG_FAMILY: Final = 0x0000_2000
_FLAG_EXTENSIONS: Final = 0x0000_8000
_IGNORE_TAG: Final = 0x9957_E304
_E10_PAYLOAD: Final = b"\xef" * PAGE_SIZE
_ADDRESS_SPACE: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class Image:
    """What a UF2 file says to write, and for whom.

    Attributes:
        family: the chip family that the file is for.
        address: where the first byte of the payload goes.
        payload: the bytes, a whole number of pages.
    """

    family: int
    address: int
    payload: bytes


def encode(payload: bytes, family: int, address: int) -> bytes:
    """A UF2 file that writes ``payload``, filled up with zeros to a whole page, at ``address``.

    Raises:
        FirmwareInvalid: nothing to write, or an address that isn't that of a page.
    """
    if not payload:
        raise FirmwareInvalid("There is nothing in this image.")
    count = -(-len(payload) // PAGE_SIZE)
    if address % PAGE_SIZE or not 0 <= address <= _ADDRESS_SPACE - count * PAGE_SIZE:
        raise FirmwareInvalid(f"{len(payload)} bytes can't be put at address {address:#x}.")
    blocks = bytearray()
    for number in range(count):
        start = number * PAGE_SIZE
        blocks += _HEADER.pack(
            *_MAGIC_START,
            _FLAG_FAMILY,
            address + start,
            PAGE_SIZE,
            number,
            count,
            family,
        )
        blocks += payload[start : start + PAGE_SIZE].ljust(_DATA_SIZE, b"\0")
        blocks += _FOOTER.pack(_MAGIC_END)
    return bytes(blocks)


def decode(data: bytes) -> Image:
    """The image in a UF2 file: one family, contiguous, complete and in order.

    The block that picotool puts first for the RP2350-E10 erratum is left out: it is of the family
    :data:`ABSOLUTE`, the first of two, and filled with 0xEF; newer ones also say of themselves that
    they are to be ignored.

    Raises:
        FirmwareInvalid: not such a file.
    """
    if not data or len(data) % BLOCK_SIZE:
        raise FirmwareInvalid(
            f"Not a UF2 file: {len(data)} bytes are not a number of blocks of {BLOCK_SIZE}."
        )
    blocks = [_Block.parse(data, start) for start in range(0, len(data), BLOCK_SIZE)]
    if blocks[0].ignored:
        del blocks[0]
    if not blocks:
        raise FirmwareInvalid("This UF2 file has nothing to write.")
    first = blocks[0]
    for number, block in enumerate(blocks):
        block.check(number, len(blocks), first)
    return Image(first.family, first.address, b"".join(block.payload for block in blocks))


@dataclass(frozen=True, slots=True)
class _Block:
    flags: int
    address: int
    size: int
    number: int
    count: int
    family: int
    payload: bytes
    tag: int

    @classmethod
    def parse(cls, data: bytes, start: int) -> _Block:
        magic0, magic1, flags, address, size, number, count, family = _HEADER.unpack_from(
            data, start
        )
        (magic_end,) = _FOOTER.unpack_from(data, start + BLOCK_SIZE - _FOOTER.size)
        if (magic0, magic1) != _MAGIC_START or magic_end != _MAGIC_END:
            raise FirmwareInvalid(f"Not a UF2 file: wrong magic in the block at byte {start}.")
        if size != PAGE_SIZE:
            raise FirmwareInvalid(
                f"The UF2 block at byte {start} carries {size} bytes; boards take {PAGE_SIZE}."
            )
        body = start + _HEADER.size
        (tag,) = _WORD.unpack_from(data, body + PAGE_SIZE)
        return cls(flags, address, size, number, count, family, data[body : body + PAGE_SIZE], tag)

    @property
    def ignored(self) -> bool:
        if self.flags & _FLAG_EXTENSIONS:
            return self.tag == _IGNORE_TAG
        place = (self.flags, self.number, self.count, self.family)
        return place == (_FLAG_FAMILY, 0, 2, ABSOLUTE) and self.payload == _E10_PAYLOAD

    def check(self, number: int, count: int, first: _Block) -> None:
        if self.flags != _FLAG_FAMILY:
            raise FirmwareInvalid(
                f"UF2 block {number} has flags {self.flags:#x}; boards need 0x2000."
            )
        if (self.number, self.count) != (number, count):
            raise FirmwareInvalid(
                f"UF2 block {number} of {count} calls itself {self.number} of {self.count}."
            )
        if self.family != first.family:
            raise FirmwareInvalid(
                f"This UF2 file mixes families {first.family:#010x} and {self.family:#010x}."
            )
        if self.address != first.address + number * PAGE_SIZE:
            raise FirmwareInvalid(f"UF2 block {number} is not where the one before it ends.")
        if self.address % PAGE_SIZE or self.address + PAGE_SIZE > _ADDRESS_SPACE:
            raise FirmwareInvalid(f"UF2 block {number} is not at a page: {self.address:#x}.")
