"""A component's own state: what the broker keeps is what the component published last."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from tests.connections import published, subscribed

from icebus.bus import Bus, StatePublisher, Will
from icebus.schemas.components import ClientState, Presence, WorkerPhase, WorkerState
from icebus.schemas.deadline import Deadline
from icebus.schemas.topics import CLIENT_STATE, WORKER_EVENT, WORKER_STATE, Topic

TOPIC = CLIENT_STATE(user="alice", client="c1")
INTERVAL = 20.0
MINE = ClientState(state=Presence.ONLINE, session="mine")


def retained(connect: Any, inbox: Any) -> bytes:
    kept = inbox()
    bus = connect("main")
    bus.subscribe(CLIENT_STATE, kept)
    payload: bytes = kept.wait(1)[0].payload
    bus.close(Deadline.after(1))
    return payload


def listen(connect: Any, inbox: Any, topic: Topic) -> Any:
    kept = inbox()
    subscribed(connect("main"), topic, kept)
    return kept


def publisher(bus: Bus) -> StatePublisher:
    return StatePublisher(bus, CLIENT_STATE, interval=INTERVAL, user="alice", client="c1")


def publishing(bus: Bus) -> StatePublisher:
    """A publisher that has published its state."""
    made = publisher(bus)
    made.publish(MINE)
    return made


@pytest.mark.parametrize(
    ("claim", "others"),
    [
        (ClientState(state=Presence.LOST, session="mine").to_json(), False),
        (ClientState(state=Presence.LOST, session="older").to_json(), False),
        (ClientState(state=Presence.ONLINE, session="foreign").to_json(), True),
        (b"", True),
        (b"garbage", True),
        (b'{"state": "online"}', True),
    ],
)
def test_when_somebody_says_otherwise_then_it_is_corrected_and_told_unless_it_is_a_will(
    connect: Any,
    inbox: Any,
    eventually: Any,
    caplog: pytest.LogCaptureFixture,
    claim: bytes,
    others: bool,
) -> None:
    publishing(connect("alice"))
    eventually(lambda: retained(connect, inbox) == MINE.to_json())
    kept = listen(connect, inbox, CLIENT_STATE)
    kept.wait(1)
    published(connect("alice"), TOPIC, claim, interval=INTERVAL)
    kept.wait(3)
    assert kept.payloads[-1] == MINE.to_json()
    assert retained(connect, inbox) == MINE.to_json()
    assert ("somebody else published" in caplog.text) is others


@pytest.mark.parametrize("before", [Presence.LOST, Presence.ONLINE, Presence.OFFLINE])
def test_when_an_earlier_run_has_left_its_state_then_ours_stands_without_a_warning(
    connect: Any, inbox: Any, eventually: Any, caplog: pytest.LogCaptureFixture, before: Presence
) -> None:
    earlier = ClientState(state=before, session="earlier").to_json()
    published(connect("alice"), TOPIC, earlier, interval=INTERVAL)

    publishing(connect("alice"))

    eventually(lambda: retained(connect, inbox) == MINE.to_json())
    assert "somebody else" not in caplog.text


def test_when_the_own_late_will_fires_then_it_does_not_stand(
    connect: Any, inbox: Any, eventually: Any
) -> None:
    lost = Will(TOPIC, ClientState(state=Presence.LOST, session="mine"), INTERVAL)
    older = connect("alice", will=lost, session_expiry=0)
    publishing(connect("alice"))
    kept = listen(connect, inbox, CLIENT_STATE)
    older._client._thread_terminate = True
    older._client.socket().shutdown(2)
    eventually(lambda: any(b"lost" in payload for payload in kept.payloads))
    eventually(lambda: retained(connect, inbox) == MINE.to_json())


def test_when_our_own_older_state_arrives_then_it_is_not_taken_for_a_claim(
    connect: Any, inbox: Any, eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bus, kept = connect("w1"), listen(connect, inbox, WORKER_STATE)
    own = StatePublisher(bus, WORKER_STATE, worker="w1")
    for phase in (WorkerPhase.INIT, WorkerPhase.READY, WorkerPhase.DRAINING):
        own.publish(WorkerState(state=phase, session="s"))
    eventually(lambda: any(b'"draining"' in payload for payload in kept.payloads))
    published(bus, WORKER_EVENT(worker="w1"), b"{}")
    assert "correcting" not in caplog.text


def test_when_closed_then_the_last_state_stands(connect: Any, inbox: Any) -> None:
    bus = connect("alice")
    own = publishing(bus)
    last = ClientState(state=Presence.OFFLINE, session="mine")
    own.close(last)
    own.publish(MINE)
    bus.close(Deadline.after(10))
    assert retained(connect, inbox) == last.to_json()


def test_when_the_broker_forgot_us_then_we_say_it_again_on_connect(
    broker: Any, connect: Any, inbox: Any, eventually: Any
) -> None:
    bus = connect("alice")
    publishing(bus)
    broker.child.process.kill()
    broker.child.process.wait()
    eventually(lambda: not bus.connected)
    broker.start(Deadline.after(10))
    assert retained(connect, inbox) == MINE.to_json()


def test_given_a_repetition_under_way_when_something_new_is_said_then_that_stands(
    connect: Any, inbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = connect("alice")
    own = publisher(bus)
    old, new = (ClientState(state=Presence.ONLINE, session="mine", version=v) for v in "12")
    own.publish(old)
    publish, repeating, overtaken = bus.publish, threading.Event(), threading.Event()
    settled = threading.Event()
    bus.call_soon(settled.set)  # the repetition of the first connect is over then
    assert settled.wait(10)

    def slow(topic: str, message: ClientState, **options: Any) -> Any:
        if message == old:
            repeating.set()
            overtaken.wait(0.3)
        published = publish(topic, message, **options)
        if message == new:
            overtaken.set()
        return published

    monkeypatch.setattr(bus, "publish", slow)
    bus.call_soon(own._repeat)
    assert repeating.wait(10)
    own.publish(new)
    bus.flush(Deadline.after(10))
    assert retained(connect, inbox) == new.to_json()


def test_given_two_of_one_name_then_they_do_not_flood_the_broker(connect: Any, inbox: Any) -> None:
    kept = listen(connect, inbox, CLIENT_STATE)
    for session in ("first", "second"):
        own = publisher(connect("alice"))
        own.publish(ClientState(state=Presence.ONLINE, session=session))
    time.sleep(1)
    assert 2 <= len(kept.messages) <= 10
