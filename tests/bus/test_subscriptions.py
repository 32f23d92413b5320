"""Subscriptions: each handler has each message once, however filters overlap."""

from __future__ import annotations

from typing import Any

import pytest
from tests.by_hand import publish_by_hand
from tests.connections import barrier, published, soon, subscribed

from icebus.broker.embedded import EmbeddedBroker
from icebus.bus import Bus, wait_for
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import DeadlineExceeded
from icebus.schemas.topics import DEVICE, OPERATION, WORKER_EVENT, shared_requests

LIST = OPERATION(user="alice", operation="list")


def test_given_overlapping_filters_then_each_handler_is_called_once(
    connect: Any, inbox: Any
) -> None:
    reader, writer = connect("main"), connect("w1")
    wide, narrow, same = inbox(), inbox(), inbox()
    subscribed(reader, DEVICE, wide)
    subscribed(reader, DEVICE, narrow, worker="w1")
    subscribed(reader, DEVICE, same, worker="w1")
    for number in range(20):
        published(writer, DEVICE(worker="w1", serial="a"), str(number).encode())
    expected = [str(number).encode() for number in range(20)]
    for kept in (wide, narrow, same):
        kept.wait(20)
        barrier(reader)
        assert kept.payloads == expected


def test_when_one_of_two_handlers_is_cancelled_then_the_other_stays(
    connect: Any, inbox: Any
) -> None:
    reader, writer, going, staying = connect("main"), connect("w1"), inbox(), inbox()
    cancelled = subscribed(reader, DEVICE, going)
    subscribed(reader, DEVICE, staying)
    cancelled.cancel()
    cancelled.cancel()
    published(writer, DEVICE(worker="w1", serial="a"), b"x")
    staying.wait(1)
    assert going.messages == []


def test_when_the_last_handler_is_cancelled_then_the_broker_sends_no_more(
    connect: Any, inbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer, kept, other = connect("main"), connect("w1"), inbox(), inbox()
    subscribed(reader, DEVICE, kept).cancel()
    subscribed(reader, WORKER_EVENT, other)
    delivered: list[str] = []
    take = reader._client.receive

    def spy(message: Any, judgement: Any) -> None:
        delivered.append(message.topic)
        take(message, judgement)

    monkeypatch.setattr(reader._client, "receive", spy)
    published(writer, DEVICE(worker="w1", serial="a"), b"x")
    published(writer, WORKER_EVENT(worker="w1"), b"y")
    other.wait(1)
    assert kept.messages == []
    assert len(delivered) == 1


def test_when_subscribed_again_after_a_cancel_then_messages_come_once(
    connect: Any, inbox: Any
) -> None:
    reader, writer, kept = connect("main"), connect("w1"), inbox()
    subscribed(reader, DEVICE, inbox()).cancel()
    subscribed(reader, DEVICE, kept)
    published(writer, DEVICE(worker="w1", serial="a"), b"x")
    kept.wait(1)
    barrier(reader)
    assert kept.payloads == [b"x"]


def test_given_retained_messages_then_a_subscriber_has_each_once_and_knows_they_are_old(
    broker: EmbeddedBroker, connect: Any, inbox: Any
) -> None:
    writer, kept = connect("w1"), inbox()
    for serial in ("a", "b"):
        published(writer, DEVICE(worker="w1", serial=serial), b"x")
    bus = Bus(broker.address("main"), "main")
    before = bus.subscribe(DEVICE, kept)
    bus.connect(soon())
    wait_for(before.acknowledged, soon(), "subscription")
    kept.wait(2)
    barrier(bus)
    published(writer, DEVICE(worker="w1", serial="c"), b"y")
    kept.wait(3)
    assert [(m.ids["serial"], m.retained) for m in kept.messages] == [
        ("a", True),
        ("b", True),
        ("c", False),
    ]
    bus.close(soon())


def test_given_a_shared_subscription_then_exactly_one_member_gets_each_message(
    connect: Any, inbox: Any
) -> None:
    members, kept = [connect("main", session_expiry=0) for _ in range(2)], inbox()
    for member in members:
        subscribed(member, OPERATION, kept, shared=shared_requests("secret"))
    user = connect("alice")
    sent = [str(number).encode() for number in range(100)]
    for payload in sent:
        published(user, LIST, payload, deadline=soon())
    kept.wait(100)
    for member in members:
        barrier(member)
    assert sorted(kept.payloads) == sorted(sent)


def test_given_a_malformed_topic_then_it_is_ignored(connect: Any, inbox: Any) -> None:
    reader, writer, kept = connect("main"), connect("w1"), inbox()
    subscribed(reader, DEVICE, kept)
    wait_for(publish_by_hand(writer, "worker/w1/device/not an id", b"x"), soon(), "the broker")
    published(writer, DEVICE(worker="w1", serial="a"), b"y")
    kept.wait(1)
    assert kept.payloads == [b"y"]


def test_when_waiting_on_a_future_too_long_then_the_deadline_is_named(connect: Any) -> None:
    subscription = Bus(connect("alice").address, "x").subscribe(DEVICE, lambda _m: None)
    with pytest.raises(DeadlineExceeded, match="the broker"):
        wait_for(subscription.acknowledged, Deadline.after(0.01), "the broker")
