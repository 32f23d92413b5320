"""The frames of the framed protocol, which icebus's own firmware speaks on its serial port.

A frame is a header with a checksum of its own and, if it carries anything, a payload with a
checksum that goes on from the header's, so that a payload never counts for another header. Numbers
are little-endian, checksums are CRC-32 as :func:`zlib.crc32` computes them. ``docs/firmware.md`` is
the contract; what is carried is in :mod:`~icebus.schemas.boards.framed_requests` and
:mod:`~icebus.schemas.boards.framed_replies`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final
from zlib import crc32

MAGIC: Final = b"\xb1\xc0"
"""Starts every frame. Neither byte is printable ASCII, so that text firmware is not mistaken."""

HEADER_SIZE: Final = 16
CHECKSUM_SIZE: Final = 4

NO_SEQUENCE: Final = 0
"""Sequence of a reply to what could not be read; no request may use it."""

LONGEST_REPLY: Final = 1024
"""Bytes of the longest payload that a board sends."""

SILENCE_SECONDS: Final = 0.25
"""A board drops a frame in which nothing came for so long."""

KEEP_ALIVE_SECONDS: Final = 10.0
"""A board that owes results and hears nothing for so long aborts them; any frame will do."""

PROTOCOL_VERSION: Final = 1

_MAGIC_TYPE_SEQUENCE_LENGTH: Final = struct.Struct("<2sBxII")
_CHECKSUM: Final = struct.Struct("<I")


class FrameType(IntEnum):
    """What a frame is. Requests have numbers below 0x80, replies above."""

    HELLO = 0x01
    MEASURE = 0x02
    STATUS = 0x03
    ABORT = 0x04
    BOOTLOADER = 0x05
    RESTART = 0x06
    BANNER = 0x81
    ACCEPTED = 0x82
    BOARD_STATUS = 0x83
    ABORTED = 0x84
    REJECTED = 0x85
    RESULT = 0x86
    SAMPLES = 0x87


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that came undamaged.

    Attributes:
        type: a :class:`FrameType`, or a number that this version doesn't know.
        sequence: of the request; a reply carries that of what it answers.
        payload: what it carries.
    """

    type: int
    sequence: int
    payload: bytes = b""

    def pack(self) -> bytes:
        """The frame as it goes over the line."""
        header = _MAGIC_TYPE_SEQUENCE_LENGTH.pack(
            MAGIC, self.type, self.sequence, len(self.payload)
        )
        checksum = crc32(header)
        header += _CHECKSUM.pack(checksum)
        if not self.payload:
            return header
        return header + self.payload + _CHECKSUM.pack(crc32(self.payload, checksum))


@dataclass(slots=True)
class FrameParser:
    """Finds frames in a stream of bytes, whatever stands between them.

    After damage it goes on one byte behind where the damaged frame seemed to begin: a frame that
    came undamaged is found, also if a damaged one claimed its bytes as payload.

    Attributes:
        longest: bytes of the longest payload that is believed; a longer one is taken for damage.
        skipped: bytes that belonged to no frame so far.
    """

    longest: int = LONGEST_REPLY
    skipped: int = 0
    _received: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete with these bytes, in order."""
        self._received += data
        frames: list[Frame] = []
        while self._find_header():
            _, kind, sequence, length = _MAGIC_TYPE_SEQUENCE_LENGTH.unpack_from(self._received)
            end = HEADER_SIZE + length
            size = end + CHECKSUM_SIZE if length else end
            if len(self._received) < size:
                break
            if length and self._checksum_of_payload(end) != self._checksum(end):
                self._skip(1)
                continue
            frames.append(Frame(kind, sequence, bytes(self._received[HEADER_SIZE:end])))
            del self._received[:size]
        return frames

    @property
    def inside_frame(self) -> bool:
        """Whether what came last may be the beginning of a frame."""
        return bool(self._received)

    def drop_begun_frame(self) -> list[Frame]:
        """Give up the frame that has begun, as after a silence; frames that it hid are returned."""
        frames: list[Frame] = []
        while self._received:
            self._skip(1)
            frames += self.feed(b"")
        return frames

    def _find_header(self) -> bool:
        """Skip to the next undamaged header; false if more bytes are needed to tell."""
        while True:
            start = self._received.find(MAGIC)
            if start < 0:
                may_begin = self._received.endswith(MAGIC[:1])
                self._skip(len(self._received) - may_begin)
                return False
            self._skip(start)
            if len(self._received) < HEADER_SIZE:
                return False
            *_, length = _MAGIC_TYPE_SEQUENCE_LENGTH.unpack_from(self._received)
            checked = _MAGIC_TYPE_SEQUENCE_LENGTH.size
            if length <= self.longest and crc32(self._received[:checked]) == self._checksum(
                checked
            ):
                return True
            self._skip(1)

    def _checksum_of_payload(self, end: int) -> int:
        # Not over the header's checksum: with it, every header would come to the same.
        header = self._checksum(HEADER_SIZE - CHECKSUM_SIZE)
        return crc32(self._received[HEADER_SIZE:end], header)

    def _checksum(self, at: int) -> int:
        (checksum,) = _CHECKSUM.unpack_from(self._received, at)
        assert isinstance(checksum, int)  # noqa: S101 - for the type checker
        return checksum

    def _skip(self, count: int) -> None:
        del self._received[:count]
        self.skipped += count


def unpack(layout: struct.Struct, payload: bytes) -> tuple[Any, ...]:
    """The fields at the beginning of a payload; what follows them is ignored.

    Raises:
        ValueError: it is too short.
    """
    if len(payload) < layout.size:
        raise ValueError(f"{len(payload)} bytes where at least {layout.size} belong")
    return layout.unpack_from(payload)
