"""Answering: to whoever asked and nobody else, once, with bounded memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from tests.bus.exchanges import Answer, Server, ask, requester, say
from tests.connections import published, soon, subscribed

from icebus.bus import Bus, Exchange, Incoming, Responder
from icebus.bus._messages import publish_properties
from icebus.bus._requests import request_memory as memory
from icebus.schemas.calls import Reply, Request
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError, InvalidRequest, NotEnoughDevices, TooManyRequests
from icebus.schemas.topics import OPERATION, REPLY

# --- trust --------------------------------------------------------------------------------------


def sniff(connect: Any, inbox: Any) -> tuple[Bus, Any]:
    """A connection that asks by hand, and what it is answered."""
    bus, kept = connect("alice"), inbox()
    subscribed(bus, REPLY, kept, user="alice")
    return bus, kept


def send(bus: Bus, payload: bytes, response_topic: str | None, user: str = "alice") -> None:
    topic = OPERATION(user=user, operation="list")
    published(
        bus,
        topic,
        payload,
        deadline=soon(),
        response_topic=response_topic,
        correlation=b"c",
    )


@pytest.mark.parametrize(
    "response_topic",
    [
        "user/bob/client/c1/reply/control",
        "user/alice/client/c1/reply/w1",
        "user/alice/client/c1/state",
        "worker/w1/desired/a",
        "control/heartbeat",
        "user/alice/client/c1/reply/control/more",
    ],
)
def test_when_the_response_topic_is_not_the_askers_then_nothing_is_done(
    connect: Any, inbox: Any, response_topic: str
) -> None:
    server = Server(connect("main"), say("yes"))
    bus, kept = sniff(connect, inbox)
    send(bus, b'{"id": "bad"}', response_topic)
    send(bus, b'{"id": "good"}', "user/alice/client/c1/reply/control")
    kept.wait(1)
    assert server.done == ["good"]


def test_when_the_response_topic_lies_outside_the_root_then_nothing_is_done(
    connect: Any, inbox: Any
) -> None:
    server = Server(connect("main"), say("yes"))
    bus, kept = sniff(connect, inbox)
    topic = bus._root.absolute(OPERATION(user="alice", operation="list"))
    for outside in ("user/alice/client/c1/reply/control", "elsewhere"):
        options = publish_properties(None, outside, None, None)
        bus._client.publish(topic, b'{"id": "bad"}', qos=1, properties=options)
    send(bus, b'{"id": "good"}', "user/alice/client/c1/reply/control")
    kept.wait(1)
    assert server.done == ["good"]


def test_when_no_answer_is_wanted_then_it_is_done_without(connect: Any, inbox: Any) -> None:
    server = Server(connect("main"), say("yes"))
    bus, kept = sniff(connect, inbox)
    send(bus, b'{"id": "quiet"}', None)
    send(bus, b'{"id": "loud"}', "user/alice/client/c1/reply/control")
    [reply] = kept.wait(1)
    assert server.done == ["quiet", "loud"]
    assert json.loads(reply.payload)["id"] == "loud"


def test_when_a_reply_comes_from_the_wrong_sender_then_it_is_ignored(connect: Any) -> None:
    kept: list[Exchange[Request]] = []
    incoming: list[Incoming] = []
    control = connect("main")
    Server(control, kept.append)
    control.subscribe(OPERATION, incoming.append)
    asker = requester(connect("alice"))
    topic = OPERATION(user="alice", operation="list")
    future = asker.send(topic, Request(), "control", Answer, Deadline.after(10))
    _until(lambda: bool(kept and incoming))
    forged = Reply(id=kept[0].request.id, ok={"word": "forged"})
    reply_to = REPLY(user="alice", client="c1", sender="w1")
    correlation = incoming[0].correlation
    published(connect("w1"), reply_to, forged.to_json(), correlation=correlation)
    kept[0].succeed(Answer(word="true"))
    assert future.wait().word == "true"


def test_when_a_reply_is_garbage_or_nobodys_then_it_is_ignored(connect: Any) -> None:
    control = connect("main")
    asker = requester(connect("alice"))
    topic = REPLY(user="alice", client="c1", sender="control")
    for payload in (b"", b"\xff", b"[]", b'{"id": "x", "error": 1}', b'{"id": "x"}'):
        published(control, topic, payload)
        published(control, topic, payload, correlation=b"?")
    Server(control, say("yes"))
    assert ask(asker).word == "yes"


@pytest.mark.parametrize(
    ("payload", "answered"),
    [
        (b'{"id": "mine", "args": 1}', "mine"),
        (b'{"id": "mine", "args": {"x": ', None),
        (b'{"id": "not an id", "args": {}}', None),
        (b'{"id": 7}', None),
        (b"", None),
        (b"\xff\xfe", None),
        (b"[" * 100_000, None),
        (b'{"id": "mine", "args": ' + b'{"a":' * 10_000, None),
    ],
)
def test_when_a_request_is_malformed_then_the_answer_says_so_with_its_id(
    connect: Any, inbox: Any, payload: bytes, answered: str | None
) -> None:
    server = Server(connect("main"), say("yes"))
    bus, kept = sniff(connect, inbox)
    send(bus, payload, "user/alice/client/c1/reply/control")
    [reply] = kept.wait(1)
    said = json.loads(reply.payload)
    assert said["error"]["code"] == InvalidRequest.code
    assert said["error"]["message"]
    assert reply.correlation == b"c"
    assert answered in (None, said["id"])
    assert server.done == []


# --- memory -------------------------------------------------------------------------------------


class Quiet:
    """A bus that keeps what is published."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def publish(self, topic: str, payload: bytes, **options: Any) -> Future[None]:
        self.sent.append(payload)
        return Future()


def offer(responder: Responder, number: int) -> Exchange[Request] | None:
    incoming = Incoming(
        topic="control/call/alice/list",
        ids={"user": "alice", "operation": "list"},
        payload=json.dumps({"id": f"r{number}"}).encode(),
        response_topic="user/alice/client/c1/reply/control",
    )
    return responder.accept(incoming, Request)


def quiet_responder() -> tuple[Responder, Quiet]:
    bus: Any = Quiet()
    return Responder(bus, "control"), bus


def test_given_many_requests_then_only_so_many_answers_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "REMEMBERED", 10)
    responder, _bus = quiet_responder()
    assert offer(responder, 0) is not None  # never answered: it must not keep the others alive
    for number in range(1, 100):
        exchange = offer(responder, number)
        assert exchange is not None
        exchange.succeed(Answer(word="x"))
    assert responder._memory.size("alice")[0] <= 11
    assert offer(responder, 99) is None
    assert offer(responder, 1) is not None


def test_given_large_answers_then_they_are_bounded_in_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "REMEMBERED_BYTES", 10_000)
    responder, _bus = quiet_responder()
    for number in range(100):
        exchange = offer(responder, number)
        assert exchange is not None
        exchange.succeed(Answer(word="x" * 1000))
    assert 5_000 < responder._memory.size("alice")[1] < 12_000


def test_given_requests_that_nobody_finishes_then_more_are_refused_until_they_are_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "OPEN", 5)
    responder, bus = quiet_responder()
    assert all(offer(responder, number) is not None for number in range(5))
    assert offer(responder, 5) is None
    reply = Reply.model_validate_json(bus.sent[0])
    assert reply.id == "r5"
    assert reply.error is not None
    assert isinstance(IcebusError.from_info(reply.error), TooManyRequests)
    monkeypatch.setattr(memory, "KEPT_FOR", -1.0)
    assert offer(responder, 6) is not None


def test_when_answered_twice_then_the_first_answer_stands() -> None:
    responder, bus = quiet_responder()
    exchange = offer(responder, 1)
    assert exchange is not None
    exchange.succeed(Answer(word="first"))
    exchange.fail(NotEnoughDevices("second"))
    assert len(bus.sent) == 1
    assert offer(responder, 1) is None
    assert bus.sent[0] == bus.sent[1]


def test_given_a_request_that_is_left_to_others_then_it_is_new_when_it_comes_again() -> None:
    responder, bus = quiet_responder()
    left = offer(responder, 1)
    assert left is not None
    assert offer(responder, 1) is None, "it is in work"

    left.leave()
    again = offer(responder, 1)

    assert bus.sent == []
    assert again is not None
    again.succeed(Answer(word="done"))
    assert len(bus.sent) == 1


def _until(holds: Callable[[], bool]) -> None:
    deadline = Deadline.after(10)
    while not holds():
        deadline.check("the test")
        time.sleep(0.005)
