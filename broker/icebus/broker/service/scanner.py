"""A connection that reads what the broker keeps, and clears it, quicker than it can be filled.

It speaks only what that takes of MQTT 5. paho needs some 100 µs for each message that it reads and
answers, on an idle machine: whoever floods the broker has it keep five times as many meanwhile.
Here a message costs some 3 µs, and what is cleared is sent together.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from icebus.bus import BrokerAddress, new_client_id
from icebus.schemas.deadline import Deadline

READ_AT_ONCE = 256 << 10
"""Bytes."""

KEEPALIVE = 300
"""Seconds; more is said all the time."""

_CONNECT, _CONNACK, _PUBLISH, _SUBSCRIBE, _SUBACK, _UNSUBSCRIBE, _UNSUBACK, _DISCONNECT = (
    0x10, 0x20, 0x30, 0x82, 0x90, 0xA2, 0xB0, 0xE0,
)  # fmt: skip
"""First bytes of packets (MQTT 5, section 2.1.2)."""

_RETAIN = 0x01
_NO_LOCAL, _AS_PUBLISHED, _NOT_KEPT = 0x04, 0x08, 0x20
"""Options of a subscription (section 3.8.3.1)."""

_SHORT = struct.Struct("!H")


@dataclass(frozen=True, slots=True)
class Message:
    """One that came.

    Attributes:
        topic: as bytes, for whoever may write it chooses them.
        payload: of it.
        retained: whether it is kept, or is to be.
    """

    topic: bytes
    payload: bytes
    retained: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """The broker has done what was asked under that number; what it had to say came before."""

    number: int


class Scanner:
    """One connection. All methods are for one thread, and none waits but for its time.

    Args:
        connection: that the broker has taken us in on.

    All methods raise OSError when it ended.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.setblocking(False)
        self._unread = bytearray()
        self._unsent = bytearray()
        self._number = 0

    @classmethod
    def connect(cls, address: BrokerAddress, deadline: Deadline) -> Self:
        """Connect, without TLS.

        Raises:
            OSError: the broker can't be reached by the deadline, or refuses us.
        """
        wait = max(0.01, deadline.remaining)
        connection = socket.create_connection((address.host, address.port), timeout=wait)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            names = (new_client_id("retained"), address.logs_in_as, address.password)
            body = b"\x00\x04MQTT\x05\xc2" + _SHORT.pack(KEEPALIVE) + b"\0"
            body += b"".join(_counted(each.encode()) for each in names)
            connection.sendall(bytes([_CONNECT]) + _length(len(body)) + body)
            # Nothing is sent after it that we have not asked for.
            answer = connection.recv(READ_AT_ONCE)
            if len(answer) < 4 or answer[0] != _CONNACK or answer[3]:
                raise ConnectionRefusedError(f"the broker refused us: {answer[:4].hex()}")
            return cls(connection)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """End it, without a word more than is sent already."""
        with self._socket:
            try:
                self._socket.send(bytes([_DISCONNECT, 0]))
            except OSError:
                return

    def subscribe(self, filters: Sequence[str], kept: bool = True) -> int:
        """Ask for what is published there; returns the number that it is answered under.

        Args:
            filters: of topics.
            kept: whether also for what is kept there.
        """
        options = bytes([_NO_LOCAL | _AS_PUBLISHED | (0 if kept else _NOT_KEPT)])
        return self._ask(_SUBSCRIBE, (_counted(each.encode()) + options for each in filters))

    def unsubscribe(self, filters: Sequence[str]) -> int:
        """Ask for it no longer; returns the number that it is answered under."""
        return self._ask(_UNSUBSCRIBE, (_counted(each.encode()) for each in filters))

    def clear(self, topic: bytes) -> None:
        """Have nothing kept there; it is sent while :meth:`read` waits."""
        self._packet(_PUBLISH | _RETAIN, _counted(topic), b"\0")

    def read(self, seconds: float) -> Iterator[Message | Answered]:
        """What has come; waits for so long if nothing has, and sends meanwhile what it can."""
        writes = [self._socket] if self._unsent else []
        readable, writable, _ = select.select([self._socket], writes, [], seconds)
        if writable:
            del self._unsent[: self._socket.send(self._unsent[:READ_AT_ONCE])]
        if readable:
            data = self._socket.recv(READ_AT_ONCE)
            if not data:
                raise ConnectionResetError("the broker ended the connection")
            self._unread += data
        return self._packets()

    # --- packets ------------------------------------------------------------------------------

    def _ask(self, kind: int, entries: Iterable[bytes]) -> int:
        self._number = self._number % 0xFFFF + 1
        self._packet(kind, _SHORT.pack(self._number), b"\0", *entries)
        return self._number

    def _packet(self, kind: int, *parts: bytes) -> None:
        self._unsent.append(kind)
        self._unsent += _length(sum(map(len, parts)))
        for part in parts:
            self._unsent += part

    def _packets(self) -> Iterator[Message | Answered]:
        unread, begin = self._unread, 0
        try:
            while (bounds := _bounds(unread, begin)) is not None:
                kind, (body, end) = unread[begin], bounds
                if kind & 0xF0 == _PUBLISH:
                    yield _message(unread, kind, body, end)
                elif kind in (_SUBACK, _UNSUBACK):
                    yield Answered(_SHORT.unpack_from(unread, body)[0])
                elif kind == _DISCONNECT:
                    raise ConnectionResetError("the broker ended the connection")
                begin = end
        except (struct.error, IndexError, ValueError):
            raise ConnectionAbortedError("what came is not MQTT") from None
        finally:
            del unread[:begin]


def _bounds(data: bytearray, at: int) -> tuple[int, int] | None:
    """Where the body of the packet there begins and ends; None while it has not come whole.

    Raises:
        ValueError: it has no end.
    """
    size = len(data)
    length = 0
    for number in range(4):
        position = at + 1 + number
        if position >= size:
            return None
        length |= (data[position] & 0x7F) << 7 * number
        if data[position] < 0x80:
            end = position + 1 + length
            return (position + 1, end) if end <= size else None
    raise ValueError("a length of more than four bytes")


def _message(data: bytearray, kind: int, begin: int, end: int) -> Message:
    """A message without quality of service, which is all that was asked for."""
    topic_end = begin + 2 + (data[begin] << 8 | data[begin + 1])
    properties, shift, at = 0, 0, topic_end
    while True:
        byte = data[at]
        at += 1
        properties |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    topic, payload = bytes(data[begin + 2 : topic_end]), bytes(data[at + properties : end])
    return Message(topic, payload, bool(kind & _RETAIN))


def _counted(text: bytes) -> bytes:
    return _SHORT.pack(len(text)) + text


def _length(value: int) -> bytes:
    """As a variable byte integer (section 1.5.5)."""
    found = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        found.append(low | (0x80 if value else 0))
        if not value:
            return bytes(found)
