"""Reading what the broker sends: as paho reads it, or left to paho."""

from __future__ import annotations

from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import MQTTException
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties, VariableByteIntegers
from tests.connections import published, soon, subscribed

from icebus.bus._connection.reading import ReceivedProperties, read_publish, read_refused
from icebus.schemas.topics import OPERATION

TOPIC = b"icebus/request/alice/list"
QOS_1, RETAINED = 0x32, 0x31

texts = st.text(st.characters(exclude_characters="\0\ufeff", exclude_categories=["Cs"]))
properties = st.fixed_dictionaries(
    {},
    optional={
        "MessageExpiryInterval": st.integers(0, 2**32 - 1),
        "ResponseTopic": texts,
        "CorrelationData": st.binary(max_size=64),
        "SubscriptionIdentifier": st.lists(st.integers(1, 268_435_455), min_size=1, max_size=4),
        "UserProperty": st.lists(st.tuples(texts, texts), min_size=1, max_size=3),
    },
)


def packed(values: dict[str, Any]) -> bytes:
    """The properties as paho packs them."""
    made = Properties(PacketTypes.PUBLISH)
    for name, value in values.items():
        setattr(made, name, value)
    return bytes(made.pack())


def packet(section: bytes, payload: bytes = b"") -> bytes:
    """What follows the length in a PUBLISH packet of QoS 1, number 7."""
    return len(TOPIC).to_bytes(2) + TOPIC + (7).to_bytes(2) + section + payload


@given(properties, st.binary())
def test_given_a_message_as_brokers_send_ours_then_it_is_read_as_it_was_sent(
    values: dict[str, Any], payload: bytes
) -> None:
    message = read_publish(QOS_1, packet(packed(values), payload))
    assert message is not None
    assert vars(message.properties) == values
    assert (message.topic.encode(), message.mid, message.qos) == (TOPIC, 7, 1)
    assert (message.payload, message.retain, message.dup) == (payload, False, False)


@given(st.binary() | properties.map(packed).map(lambda section: section[1:]))
def test_given_properties_of_any_bytes_then_they_are_read_as_paho_does_or_left_to_it(
    data: bytes,
) -> None:
    section = VariableByteIntegers.encode(len(data)) + data
    message = read_publish(QOS_1, packet(section))
    if message is None:
        return
    theirs = Properties(PacketTypes.PUBLISH)
    try:
        theirs.unpack(section)
    except MQTTException:
        # It refuses numbers of subscriptions that no broker gives, as nobody has asked for them.
        assert 0 in vars(message.properties)["SubscriptionIdentifier"]
        return
    for name, value in vars(message.properties).items():
        assert getattr(theirs, name) == value


@given(properties, st.integers(0, 200))
def test_when_a_packet_ends_early_then_it_is_left_to_paho(
    values: dict[str, Any], length: int
) -> None:
    whole = packet(packed(values))
    if length < len(whole):
        assert read_publish(QOS_1, whole[:length]) is None


@pytest.mark.parametrize(
    ("header", "section"),
    [
        pytest.param(0x34, b"\0", id="QoS 2"),
        pytest.param(QOS_1, b"\x03\x23\0\1", id="a topic alias"),
        pytest.param(QOS_1, packed({"ResponseTopic": "a"})[1:] * 2, id="two response topics"),
        pytest.param(QOS_1, b"\x05\x08\0\2\xff\xfe", id="a response topic that is no text"),
        pytest.param(QOS_1, b"\x04\x08\0\1\0", id="a response topic with a zero"),
    ],
)
def test_when_a_message_is_not_as_brokers_send_ours_then_it_is_left_to_paho(
    header: int, section: bytes
) -> None:
    assert read_publish(header, packet(section)) is None


def test_given_paho_as_installed_then_messages_are_read_by_us(connect: Any, inbox: Any) -> None:
    """It calls what we override, which is not among what it promises."""
    bus, kept = connect("main"), inbox()
    subscribed(bus, OPERATION, kept)
    read: list[object] = []

    def receive(message: paho.MQTTMessage, judgement: Any) -> None:
        read.append(message.properties)
        taken(message, judgement)

    taken, bus._client.receive = bus._client.receive, receive
    topic = OPERATION(user="alice", operation="list")
    published(connect("alice"), topic, b"{}", deadline=soon())
    kept.wait(1)
    assert isinstance(read[0], ReceivedProperties)


@given(st.binary() | properties.map(packed), st.binary(max_size=20), st.sampled_from([0x30, 0x32]))
def test_given_a_message_that_is_refused_whatever_its_properties_are_then_it_can_be_told(
    data: bytes, payload: bytes, header: int
) -> None:
    body = packet(data, payload)
    if header == 0x30:
        body = body.replace(TOPIC + b"\0\7", TOPIC, 1)
    message = read_refused(header, body)
    assert message is not None
    assert message.topic.encode() == TOPIC


@given(properties, st.binary(max_size=20))
def test_given_a_message_that_is_refused_then_where_its_answer_goes_is_read(
    values: dict[str, Any], payload: bytes
) -> None:
    message = read_refused(QOS_1, packet(packed(values), payload))
    assert message is not None
    told = ("ResponseTopic", "CorrelationData", "SubscriptionIdentifier")
    assert vars(message.properties) == {name: values[name] for name in told if name in values}
    assert message.payload == payload
