"""Publishing: what is too large or not allowed is refused, and what is sent arrives as it was."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from tests.connections import barrier, published, soon, subscribed

from icebus.broker.embedded import EmbeddedBroker
from icebus.broker.mosquitto import MAX_PACKET
from icebus.bus import Bus
from icebus.bus._messages import publish_properties
from icebus.bus._outgoing import ASSUMED_MAXIMUM, HEADER_ALLOWANCE
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import MessageTooLarge, NotAuthorized
from icebus.schemas.topics import DESIRED, OPERATION, REPLY, WORKER_HEARTBEAT

LIST = OPERATION(user="alice", operation="list")
REPLY_TO = REPLY(user="alice", client="c", sender="control")


def test_when_a_message_is_too_large_then_it_is_refused_before_it_is_sent(connect: Any) -> None:
    bus = connect("alice")
    with pytest.raises(MessageTooLarge) as caught:
        bus.publish(LIST, bytes(MAX_PACKET), deadline=soon())
    assert caught.value.details["limit"] < MAX_PACKET
    published(bus, LIST, bytes(MAX_PACKET - HEADER_ALLOWANCE), deadline=soon())
    assert bus.connected


def test_when_not_yet_connected_then_a_message_too_large_is_refused_too(
    broker: EmbeddedBroker,
) -> None:
    bus = Bus(broker.address("alice"), "alice")
    with pytest.raises(MessageTooLarge):
        bus.publish(LIST, bytes(ASSUMED_MAXIMUM), deadline=soon())


def test_when_the_access_list_refuses_a_topic_then_the_future_says_so(connect: Any) -> None:
    with pytest.raises(NotAuthorized):
        published(connect("alice"), DESIRED(worker="w1", serial="a"), b"{}")


def test_when_sent_with_properties_then_they_arrive(connect: Any, inbox: Any) -> None:
    control, user, kept = connect("main"), connect("alice"), inbox()
    subscribed(control, OPERATION, kept)
    published(
        user,
        LIST,
        b"{}",
        deadline=soon(),
        response_topic=REPLY_TO,
        correlation=b"\0\xff",
        properties={"encoding": "zlib"},
    )
    [incoming] = kept.wait(1)
    assert incoming.ids == {"user": "alice", "operation": "list"}
    assert incoming.response_topic == REPLY_TO
    assert incoming.correlation == b"\0\xff"
    assert incoming.properties == {"encoding": "zlib"}


@pytest.mark.parametrize(
    ("seconds", "interval"),
    [(0.0, 1), (0.2, 1), (1.0, 1), (1.2, 2), (3600.0, 3600), (-5.0, 1)],
)
def test_given_an_expiry_then_it_is_whole_seconds_and_never_for_ever(
    connect: Any, monkeypatch: pytest.MonkeyPatch, seconds: float, interval: int
) -> None:
    bus = connect("alice")
    sent: list[Any] = []
    publish = bus._client.publish

    def spy(*args: Any, **kwargs: Any) -> Any:
        sent.append(kwargs["properties"])
        return publish(*args, **kwargs)

    monkeypatch.setattr(bus._client, "publish", spy)
    published(bus, LIST, b"{}", deadline=Deadline.after(seconds))
    read = Properties(PacketTypes.PUBLISH)
    read.unpack(sent[0].pack())
    assert getattr(read, "MessageExpiryInterval") == interval  # noqa: B009


def test_when_a_message_has_expired_then_nobody_gets_it(
    connect: Any, inbox: Any, eventually: Any
) -> None:
    first, second = connect("w1"), connect("w2")
    published(first, WORKER_HEARTBEAT(worker="w1"), b"x", interval=0.1)
    published(second, WORKER_HEARTBEAT(worker="w2"), b"x", interval=60)

    def only_the_second_is_left() -> bool:
        kept = inbox()
        reader = connect("main")
        subscribed(reader, WORKER_HEARTBEAT, kept)
        kept.wait(1)
        barrier(reader)
        return {m.ids["worker"] for m in kept.messages} == {"w2"}

    eventually(only_the_second_is_left)


@given(
    expiry=st.none() | st.floats(-10, 2**31),
    topic=st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=200),
    correlation=st.none() | st.binary(max_size=300),
    user=st.dictionaries(st.text("abcé", max_size=20), st.text("xyz☃", max_size=20), max_size=3),
)
def test_given_any_properties_then_paho_reads_what_we_have_packed(
    expiry: float | None, topic: str | None, correlation: bytes | None, user: dict[str, str]
) -> None:
    packed = publish_properties(expiry, topic, correlation, user).pack()
    read = Properties(PacketTypes.PUBLISH)
    _, size = read.unpack(packed)
    assert size == len(packed)
    assert getattr(read, "ResponseTopic", None) == topic
    assert getattr(read, "CorrelationData", None) == correlation
    assert dict(getattr(read, "UserProperty", ())) == user
    assert hasattr(read, "MessageExpiryInterval") == (expiry is not None)
