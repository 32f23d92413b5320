"""Packets are read from a stream of bytes, in whatever pieces it comes."""

from __future__ import annotations

import itertools
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from icebus.bus._admission.admission import Judgement
from icebus.bus._connection.reading import ReadingClient
from icebus.schemas.errors import TooManyRequests

REFUSED = Judgement("alice", TooManyRequests("too many"))
TOLD = Judgement("alice", TooManyRequests("too many"), told=True)


class Wire:
    """A socket that gives the pieces it is told to, and keeps what is sent."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def recv(self, size: int) -> bytes:
        if not self.pieces:
            raise BlockingIOError
        piece = self.pieces.pop(0)
        if len(piece) > size:
            self.pieces.insert(0, piece[size:])
        return piece[:size]

    def close(self) -> None:
        self.pieces = []


class Reader:
    """A client on a made-up wire."""

    def __init__(self, pieces: list[bytes], judge: Any = lambda *_: None) -> None:
        self.came: list[tuple[str, bytes, bool]] = []
        self.acknowledged = b""
        self.client = ReadingClient(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self.client.judge = judge
        self.client.before_reading = lambda: None
        self.client.receive = self._receive
        self.wire = Wire(pieces)
        client: Any = self.client
        client._sock = self.wire
        client._packet_queue = self._queue

    def _receive(self, message: paho.MQTTMessage, judgement: Judgement | None) -> None:
        refused = judgement is not None and judgement.refusal is not None
        self.came.append((message.topic, bytes(message.payload), refused))

    def _queue(self, _command: int, packet: bytes, *_: object) -> MQTTErrorCode:
        self.acknowledged += packet
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def read(self) -> MQTTErrorCode:
        while self.wire.pieces:
            code = self.client.loop_read()
            if code:
                return code
        return MQTTErrorCode.MQTT_ERR_SUCCESS


def message(number: int, qos: int, size: int, properties: bytes = b"") -> bytes:
    topic = b"t/%d" % number
    body = len(topic).to_bytes(2, "big") + topic
    if qos:
        body += (number + 1).to_bytes(2, "big")
    body += bytes([len(properties)]) + properties + b"x" * size
    length, encoded = len(body), b""
    while True:
        length, low = divmod(length, 128)
        encoded += bytes([low | (0x80 if length else 0)])
        if not length:
            return bytes([0x30 | qos << 1]) + encoded + body


PONG = b"\xd0\x00"


@given(
    st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from([0, 1, 100, 20_000])), max_size=8),
    st.data(),
)
def test_given_messages_in_any_pieces_then_each_comes_once_and_in_order(
    sent: list[tuple[int, int]], data: st.DataObject
) -> None:
    packets = [message(number, qos, size) + PONG for number, (qos, size) in enumerate(sent)]
    stream = b"".join(packets)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=6))
    edges = sorted({0, *cuts, len(stream)})
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    reader = Reader(pieces)
    assert reader.read() is MQTTErrorCode.MQTT_ERR_SUCCESS
    assert reader.came == [(f"t/{n}", b"x" * size, False) for n, (_, size) in enumerate(sent)]
    numbers = [n + 1 for n, (qos, _) in enumerate(sent) if qos]
    assert reader.acknowledged == b"".join(b"\x40\x02" + n.to_bytes(2, "big") for n in numbers)


def test_given_messages_that_are_not_taken_then_they_are_acknowledged_unread() -> None:
    judged: list[tuple[bytes, int, int]] = []

    def judge(topic: bytes, size: int, properties: int, _at: float) -> Judgement:
        judged.append((topic, size, properties))
        return REFUSED

    reader = Reader([message(1, 1, 10, b"\x02\0\0\0\x05") + message(2, 0, 20)], judge)
    reader.read()
    assert reader.came == []
    assert reader.acknowledged == b"\x40\x02\x00\x02"
    assert judged == [(b"t/1", 23, 5), (b"t/2", 26, 0)]


def test_given_a_refusal_that_is_to_be_told_then_the_message_is_handed_on_with_it() -> None:
    reader = Reader([message(1, 1, 10)], lambda *_: TOLD)
    reader.read()
    assert reader.came == [("t/1", b"x" * 10, True)]


def test_given_a_property_that_nobody_sends_us_then_paho_reads_the_message() -> None:
    reader = Reader([message(1, 0, 3, b"\x03\0\x01a")])  # a content type
    reader.read()
    assert reader.came == [("t/1", b"xxx", False)]


def test_given_text_of_a_user_that_paho_refuses_then_the_message_is_dropped_and_others_come() -> (
    None
):
    text = b"\x26\0\x01a\0\x03\xef\xbb\xbf"  # a user property with a byte order mark
    reader = Reader([message(1, 1, 3, text) + message(2, 1, 3)], lambda *_: Judgement("alice"))
    assert reader.read() is MQTTErrorCode.MQTT_ERR_SUCCESS
    assert reader.came == [("t/2", b"xxx", False)]
    assert reader.acknowledged == b"\x40\x02\x00\x02\x40\x02\x00\x03"


@pytest.mark.parametrize("rest", [b"\x30\xff\xff\xff\xff\xff\x01", b"\xf0\x00"])
def test_given_what_is_no_packet_then_the_connection_is_given_up(rest: bytes) -> None:
    assert Reader([rest]).read() is not MQTTErrorCode.MQTT_ERR_SUCCESS


@given(st.binary(max_size=60))
def test_given_any_bytes_then_reading_never_raises(data: bytes) -> None:
    Reader([data]).read()
