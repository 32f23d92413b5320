"""How messages are carried: as the table of topics says, because nothing else says it."""

from __future__ import annotations

import ast
import queue
from pathlib import Path
from typing import Any

import pytest
from tests.by_hand import publish_by_hand
from tests.capture import Capture
from tests.connections import soon, subscribed

from icebus.broker.embedded import EmbeddedBroker
from icebus.bus import Will
from icebus.schemas.components import ClientState, ControlState, Presence, WorkerPhase, WorkerState
from icebus.schemas.deadline import Deadline
from icebus.schemas.message import Message
from icebus.schemas.topics import (
    CALL,
    CLIENT_STATE,
    CONTROL_STATE,
    EVENT,
    TOPICS,
    WORKER_EVENT,
    WORKER_HEARTBEAT,
    WORKER_STATE,
    Role,
    Topic,
    TopicName,
)

ROOT = Path(__file__).parents[2]
KNOW_BETTER = {
    "schemas/icebus/schemas/topics.py",
    "broker/icebus/broker/service/retained.py",  # clears what was sent against the table
}
PEOPLE = {
    Role.BROKER: "broker",
    Role.CONTROL: "main",
    Role.WORKER: "w1",
    Role.USER: "alice",
    Role.OBSERVER: "eve",
    Role.ADMIN: "root",
}
INTERVAL = 7.0
DEADLINE = 90.0


def writer_of(topic: Topic) -> tuple[str, TopicName]:
    """Somebody who may write the topic, and where."""
    role, grant = next(iter(topic.writers.items()))
    person = PEOPLE[role]
    ids = dict.fromkeys(topic.levels, "x") | {"worker": "w1", "user": "alice", "control": "main"}
    reader, read = next(iter(topic.readers.items()))
    ids |= {level: value.replace("{self}", PEOPLE[reader]) for level, value in read.items()}
    ids |= {level: value.replace("{self}", person) for level, value in grant.items()}
    return person, topic(**{level: ids[level] for level in topic.levels})


def reader_of(topic: Topic) -> str:
    return PEOPLE[next(iter(topic.readers))]


def depends_on(topic: Topic) -> dict[str, Any]:
    """What has to be said when the topic is published."""
    if topic.expiry.at_deadline:
        return {"deadline": Deadline.after(DEADLINE)}
    return {} if topic.expiry.intervals is None else {"interval": INTERVAL}


def lifetime(topic: Topic) -> float | None:
    if topic.expiry.at_deadline:
        return DEADLINE
    return topic.expiry.seconds(None if topic.expiry.intervals is None else INTERVAL)


@pytest.mark.parametrize("name", TOPICS)
def test_given_a_topic_when_published_then_it_is_carried_as_the_table_says(
    broker: EmbeddedBroker, connect: Any, name: str
) -> None:
    topic = TOPICS[name]
    person, address = writer_of(topic)
    with Capture(broker.address(reader_of(topic)), [topic]) as capture:
        connect(person).publish(address, b"{}", **depends_on(topic))
        [captured] = capture.of(topic)
    assert captured.topic == address
    assert (captured.retained, captured.qos) == (topic.retained, topic.qos)
    left, expected = captured.expiry, lifetime(topic)
    assert left == expected or (left and expected and expected - 5 <= left <= expected)


@pytest.mark.parametrize("name", [name for name, topic in TOPICS.items() if topic.retained])
def test_given_a_retained_topic_when_cleared_then_nothing_is_kept(
    broker: EmbeddedBroker, connect: Any, inbox: Any, name: str
) -> None:
    topic = TOPICS[name]
    person, address = writer_of(topic)
    bus = connect(person)
    with Capture(broker.address(reader_of(topic)), [topic]) as capture:
        bus.publish(address, b"{}", **depends_on(topic))
        bus.clear(address)
        capture.of(topic, count=2)
    late = inbox()
    reader = connect(reader_of(topic))
    reader.subscribe(topic, late).acknowledged.result(10)
    reader.close(soon())
    assert late.messages == []


@pytest.mark.parametrize("name", TOPICS)
def test_given_a_topic_when_subscribed_then_it_is_with_the_quality_of_the_table(
    connect: Any, name: str
) -> None:
    topic = TOPICS[name]
    came: queue.SimpleQueue[int] = queue.SimpleQueue()
    reader = connect(reader_of(topic))
    subscribed(reader, topic, lambda _incoming: None)
    reader._client.receive = lambda message, _judgement: came.put(message.qos)
    person, address = writer_of(topic)
    publish_by_hand(connect(person), address, b"{}")  # with QoS 1, which the reader's may lower
    assert came.get(timeout=10) == topic.qos


@pytest.mark.parametrize(
    ("topic", "state", "interval"),
    [
        (
            CLIENT_STATE(user="alice", client="c"),
            ClientState(state=Presence.LOST, session="s"),
            INTERVAL,
        ),
        (WORKER_STATE(worker="w1"), WorkerState(state=WorkerPhase.LOST, session="s"), None),
        (CONTROL_STATE(control="main"), ControlState(state=Presence.LOST, session="s"), None),
    ],
)
def test_given_a_will_when_the_client_dies_then_it_is_carried_as_the_table_says(
    broker: EmbeddedBroker,
    connect: Any,
    topic: TopicName,
    state: Message,
    interval: float | None,
) -> None:
    family = topic.family
    dying = connect(writer_of(family)[0], will=Will(topic, state, interval), session_expiry=0)
    with Capture(broker.address("main"), [family]) as capture:
        dying._client._thread_terminate = True
        dying._client.socket().shutdown(2)
        [captured] = capture.of(family)
    assert captured.payload == state.to_json()
    assert (captured.retained, captured.qos) == (True, family.qos)
    assert captured.expiry == lifetime(family)


@pytest.mark.parametrize(
    ("topic", "options"),
    [
        (EVENT, {"interval": 1.0}),
        (EVENT, {"deadline": Deadline.after(1)}),
        (CALL, {}),
        (CALL, {"interval": 1.0}),
        (WORKER_HEARTBEAT, {}),
        (WORKER_HEARTBEAT, {"deadline": Deadline.after(1)}),
        (WORKER_HEARTBEAT, {"interval": 1.0, "deadline": Deadline.after(1)}),
    ],
)
def test_given_what_the_expiry_does_not_depend_on_then_it_is_refused(
    connect: Any, topic: Topic, options: dict[str, Any]
) -> None:
    person, address = writer_of(topic)
    with pytest.raises(TypeError, match=r"interval|deadline"):
        connect(person).publish(address, b"{}", **options)


def test_given_a_topic_that_is_not_retained_then_there_is_nothing_to_clear(connect: Any) -> None:
    with pytest.raises(TypeError, match="not retained"):
        connect("w1").clear(WORKER_EVENT(worker="w1"))


def test_given_the_sources_then_only_the_bus_says_how_a_message_is_carried() -> None:
    by_hand = []
    for package in ("schemas", "broker", "control", "worker", "client"):
        for path in sorted((ROOT / package / "icebus").rglob("*.py")):
            if "bus" in path.relative_to(ROOT / package / "icebus").parts:
                continue
            if path.relative_to(ROOT).as_posix() in KNOW_BETTER:
                continue
            by_hand += [
                f"{path.relative_to(ROOT)}:{call.lineno}: {keyword.arg}"
                for call in ast.walk(ast.parse(path.read_text()))
                if isinstance(call, ast.Call)
                for keyword in call.keywords
                if keyword.arg in {"retain", "retained", "qos", "expiry"}
            ]
    assert by_hand == []
