"""Requests from a stream of bytes, as the firmware finds them.

Unlike :class:`~icebus.schemas.boards.framed.FrameParser`, a board has no room to look at a frame as
a whole before it believes its header: what a damaged payload hid is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final
from zlib import crc32

from icebus.rack.firmware.framed.limits import QUEUE_BYTES, REQUEST_SIZE
from icebus.schemas.boards.framed import (
    CHECKSUM_SIZE,
    HEADER_SIZE,
    MAGIC,
    NO_SEQUENCE,
    SILENCE_SECONDS,
    FrameType,
)
from icebus.schemas.boards.framed_replies import Reason, Rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from icebus.rack.firmware.framed.queue import Place

_CHECKED: Final = HEADER_SIZE - CHECKSUM_SIZE
"""Bytes of a header ahead of its checksum."""

_REQUESTS: Final = range(FrameType.HELLO, FrameType.RESTART + 1)


@dataclass(frozen=True, slots=True)
class Request:
    """A request that came undamaged.

    Attributes:
        type: what is asked for.
        sequence: its number.
        payload: what it carries; not all of an encoded bitstream for which there is no place.
        place: for the encoded bitstream, if there is one.
    """

    type: FrameType
    sequence: int
    payload: bytes = b""
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reply to what could not be received."""

    sequence: int
    rejected: Rejected


Received = Request | Refusal


class _Part(Enum):
    HEADER = auto()
    PAYLOAD = auto()
    CHECKSUM = auto()
    SKIPPED = auto()


class Receiver:
    """Receives the frames of one host.

    Args:
        reserve: gives the place for an encoded bitstream of so many bytes.
    """

    def __init__(self, reserve: Callable[[int], Place | None]) -> None:
        self._reserve = reserve
        self.skipped_bytes = 0
        self._part = _Part.HEADER
        self._header = bytearray()
        self._payload = bytearray()
        self._checksum = bytearray()
        self._received = 0
        self._place: Place | None = None
        self._computed = 0
        self._last_byte = 0.0
        self._damage_is_told = False

    @property
    def wants(self) -> int:
        """Bytes to the end of what is being received; more may belong to another frame."""
        if self._part is _Part.HEADER:
            return HEADER_SIZE - len(self._header)
        if self._part is _Part.CHECKSUM:
            return CHECKSUM_SIZE - len(self._checksum)
        return self._length + CHECKSUM_SIZE - self._received

    @property
    def inside_frame(self) -> bool:
        """Whether a frame has begun."""
        return self._part is not _Part.HEADER or bool(self._header)

    @property
    def payload_size(self) -> int | None:
        """Bytes of the payload that is being received."""
        return self._length if self._part in (_Part.PAYLOAD, _Part.CHECKSUM) else None

    @property
    def deadline(self) -> float | None:
        """When a frame that goes on no more is given up."""
        return self._last_byte + SILENCE_SECONDS if self.inside_frame else None

    def reset(self) -> None:
        """Forget what has begun."""
        self._await(_Part.HEADER)

    def feed(self, data: bytes, now: float) -> Iterator[Received]:
        """What is complete with these bytes, in order; to be used up before the next call."""
        self._last_byte = now
        while data:
            if self._part is _Part.HEADER:
                data = self._take(self._header, data, HEADER_SIZE)
                yield from self._skip_to_magic()
                if len(self._header) == HEADER_SIZE:
                    yield from self._header_has_come()
            elif self._part is _Part.PAYLOAD:
                data = self._receive_payload(data)
            elif self._part is _Part.CHECKSUM:
                data = self._take(self._checksum, data, CHECKSUM_SIZE)
                if len(self._checksum) == CHECKSUM_SIZE:
                    yield self._complete()
            else:
                count = min(len(data), self._length + CHECKSUM_SIZE - self._received)
                self._received += count
                data = data[count:]
                if self._received == self._length + CHECKSUM_SIZE:
                    self._await(_Part.HEADER)

    def give_up_after_silence(self, now: float) -> Iterator[Received]:
        """Give up a frame in which nothing has come for long."""
        deadline = self.deadline
        if deadline is None or now < deadline:
            return
        part, received, length = self._part, self._received, self._length
        sequence = self._sequence
        if part is _Part.HEADER:
            self.skipped_bytes += len(self._header)
        self._await(_Part.HEADER)
        if part is _Part.HEADER:
            yield from self._tell_damage()
        elif part is not _Part.SKIPPED:
            came = received if part is _Part.PAYLOAD else length
            yield Refusal(sequence, Rejected(Reason.CUT_OFF, came))

    @property
    def _sequence(self) -> int:
        return int.from_bytes(self._header[4:8], "little")

    @property
    def _length(self) -> int:
        return int.from_bytes(self._header[8:12], "little")

    def _await(self, part: _Part) -> None:
        self._part = part
        self._received = 0
        if part is _Part.HEADER:
            self._header.clear()
            self._payload.clear()
            self._checksum.clear()
            self._place = None

    @staticmethod
    def _take(to: bytearray, data: bytes, size: int) -> bytes:
        """Take bytes up to a size; the others."""
        count = size - len(to)
        to += data[:count]
        return data[count:]

    def _tell_damage(self) -> Iterator[Received]:
        if not self._damage_is_told:
            self._damage_is_told = True
            yield Refusal(NO_SEQUENCE, Rejected(Reason.HEADER_DAMAGED))

    def _skip_to_magic(self, start: int = 0) -> Iterator[Received]:
        header = self._header
        found = header.find(MAGIC, start)
        if found < 0:
            found = len(header) - header.endswith(MAGIC[:1])
        if found:
            del header[:found]
            self.skipped_bytes += found
            yield from self._tell_damage()

    def _header_has_come(self) -> Iterator[Received]:
        checksum = int.from_bytes(self._header[_CHECKED:], "little")
        if crc32(self._header[:_CHECKED]) != checksum:
            yield from self._skip_to_magic(1)
            return
        self._damage_is_told = False
        self._computed = checksum
        kind, length, sequence = self._header[2], self._length, self._sequence
        longest = REQUEST_SIZE + QUEUE_BYTES if kind == FrameType.MEASURE else 0
        rejected = None
        if kind not in _REQUESTS:
            rejected = Rejected(Reason.UNKNOWN_TYPE, kind)
        elif length > longest:
            rejected = Rejected(Reason.TOO_LONG, longest)
        elif kind == FrameType.MEASURE and length <= REQUEST_SIZE:
            rejected = Rejected(Reason.INVALID_ARGUMENT, REQUEST_SIZE)  # nothing to configure with
        if rejected is not None:
            self._await(_Part.SKIPPED if length else _Part.HEADER)
            yield Refusal(sequence, rejected)
        elif length:
            self._await(_Part.PAYLOAD)
        else:
            self._await(_Part.HEADER)
            yield Request(FrameType(kind), sequence)

    def _receive_payload(self, data: bytes) -> bytes:
        """Take bytes of the payload; the others."""
        part = data[: self._length - self._received]
        before = self._received
        self._received += len(part)
        self._computed = crc32(part, self._computed)
        if before < REQUEST_SIZE <= self._received:
            self._place = self._reserve(self._length - REQUEST_SIZE)
        if self._place is not None or before < REQUEST_SIZE:
            self._payload += part
        if self._received == self._length:
            self._part = _Part.CHECKSUM
        return data[len(part) :]

    def _complete(self) -> Received:
        kind, sequence, place = FrameType(self._header[2]), self._sequence, self._place
        sound = int.from_bytes(self._checksum, "little") == self._computed
        payload = bytes(self._payload)
        self._await(_Part.HEADER)
        if not sound:
            return Refusal(sequence, Rejected(Reason.PAYLOAD_DAMAGED))
        return Request(kind, sequence, payload, place)
