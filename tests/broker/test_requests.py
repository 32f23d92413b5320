"""Request/response between two real connections: one answer each, whatever is sent again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Queue
from typing import Any

import pytest

from icebus.bus import _answering as responses_module
from icebus.bus import _asking as requests_module
from icebus.bus._answering import Exchange, Responder
from icebus.bus._asking import Requester
from icebus.bus._bus import Bus, wait
from icebus.bus._messages import Incoming, publish_properties
from icebus.schemas.calls import Reply, Request
from icebus.schemas.components import ClientState, Presence
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import (
    BrokerUnavailable,
    Conflict,
    DeadlineExceeded,
    IcebusError,
    InternalError,
    InvalidRequest,
    MessageTooLarge,
    NotAuthorized,
    NotEnoughDevices,
    QueueFull,
    RemoteError,
)
from icebus.schemas.message import Message
from icebus.schemas.topics import ADMIN, OPERATION, REPLY, SHARED_OPERATIONS

Act = Callable[[Exchange[Request]], None]


class Answer(Message):
    word: str


class Server:
    """A control that does what it is told and counts what it did."""

    def __init__(self, bus: Bus, act: Act) -> None:
        self.done: list[str] = []
        self._act = act
        self.responder = Responder(bus, "control")
        subscription = bus.subscribe(OPERATION, self._on_request, shared=SHARED_OPERATIONS)
        wait(subscription.acknowledged, Deadline.after(10), "subscription")

    def _on_request(self, incoming: Incoming) -> None:
        exchange = self.responder.accept(incoming, Request)
        if exchange is not None:
            self.done.append(exchange.request.id)
            self._act(exchange)


def say(word: str) -> Act:
    return lambda exchange: exchange.succeed(Answer(word=word))


def requester(bus: Bus, user: str = "alice", client: str = "c1") -> Requester:
    made = Requester(bus, user, client)
    wait(made.subscription.acknowledged, Deadline.after(10), "subscription")
    return made


def ask(asker: Requester, seconds: float = 10, request: Request | None = None) -> Answer:
    topic = OPERATION(user="alice", operation="list")
    deadline = Deadline.after(seconds)
    return asker.ask(topic, request or Request(), "control", Answer, deadline)


# --- one request --------------------------------------------------------------------------------


def test_when_asked_then_answered(connect: Any) -> None:
    Server(connect("main"), say("yes"))
    assert ask(requester(connect("alice"))).word == "yes"


def test_when_an_error_is_answered_then_it_is_raised_as_the_same_class(connect: Any) -> None:
    Server(
        connect("main"),
        lambda exchange: exchange.fail(NotEnoughDevices("too few", wanted=4, available=2)),
    )
    with pytest.raises(NotEnoughDevices, match="too few") as caught:
        ask(requester(connect("alice")))
    assert caught.value.details == {"wanted": 4, "available": 2}


def test_when_the_server_has_a_bug_then_the_answer_hides_it_and_the_log_has_it(
    connect: Any, caplog: pytest.LogCaptureFixture
) -> None:
    Server(connect("main"), lambda exchange: exchange.fail(KeyError("a secret")))
    with pytest.raises(InternalError) as caught:
        ask(requester(connect("alice")))
    assert "secret" not in caught.value.message
    assert "a secret" in caplog.text


def test_when_the_answer_is_not_what_we_read_then_it_is_a_typed_error(connect: Any) -> None:
    Server(
        connect("main"),
        lambda exchange: exchange.answer(Reply(id=exchange.request.id, ok={"words": 1})),
    )
    with pytest.raises(RemoteError, match="word: Field required"):
        ask(requester(connect("alice")))


def test_when_the_answer_is_too_large_then_the_asker_is_told(connect: Any) -> None:
    Server(connect("main"), say("x" * (3 << 20)))
    with pytest.raises(MessageTooLarge):
        ask(requester(connect("alice")))


def test_when_nobody_answers_then_the_deadline_is_the_error(connect: Any) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="is it running"):
        ask(requester(connect("alice")), seconds=0.3)
    assert time.monotonic() - began < 2


def test_when_the_broker_is_away_then_the_deadline_error_says_so(
    broker: Any, connect: Any, eventually: Any
) -> None:
    bus = connect("alice")
    asker = requester(bus)
    broker.child.process.kill()
    eventually(lambda: not bus.connected)
    with pytest.raises(DeadlineExceeded, match="broker is away"):
        ask(asker, seconds=0.3)


def test_when_the_access_list_refuses_the_request_then_it_fails_at_once(connect: Any) -> None:
    asker = requester(connect("alice"))
    topic = ADMIN(user="alice", operation="quarantine")
    with pytest.raises(NotAuthorized):
        asker.ask(topic, Request(), "control", Answer, Deadline.after(10))


def test_when_the_request_is_too_large_then_it_fails_at_once(connect: Any) -> None:
    with pytest.raises(MessageTooLarge):
        ask(requester(connect("alice")), request=Request(args={"x": "x" * (3 << 20)}))


def test_when_closed_then_what_is_unanswered_fails(connect: Any) -> None:
    asker = requester(connect("alice"))
    topic = OPERATION(user="alice", operation="list")
    future = asker.send(topic, Request(), "control", Deadline.after(60))
    asker.close()
    assert isinstance(future.exception(timeout=1), BrokerUnavailable)


# --- sent again ---------------------------------------------------------------------------------


def test_when_sent_again_then_done_once_and_answered(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests_module, "RETRY_INTERVAL", 0.05)
    kept: list[Exchange[Request]] = []
    server = Server(connect("main"), kept.append)
    asker = requester(connect("alice"))
    request = Request()
    topic = OPERATION(user="alice", operation="list")
    future = asker.send(topic, request, "control", Deadline.after(10))
    late = threading.Event()
    late.wait(0.4)
    assert server.done == [request.id]
    kept[0].succeed(Answer(word="late"))
    assert future.result(timeout=10) == {"word": "late"}
    assert len(kept) == 1


def test_when_the_first_sending_is_lost_then_a_later_one_is_answered(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests_module, "RETRY_INTERVAL", 0.05)
    asker = requester(connect("alice"))
    topic = OPERATION(user="alice", operation="list")
    future = asker.send(topic, Request(), "control", Deadline.after(10))
    threading.Event().wait(0.1)
    Server(connect("main"), say("after all"))
    assert future.result(timeout=10) == {"word": "after all"}


def test_when_the_same_id_comes_after_the_answer_then_the_answer_is_repeated(
    connect: Any,
) -> None:
    words = iter(["first", "second"])
    server = Server(connect("main"), lambda exchange: say(next(words))(exchange))
    asker = requester(connect("alice"))
    request = Request(id="fixed")
    assert [ask(asker, request=request).word for _ in range(2)] == ["first", "first"]
    assert server.done == ["fixed"]


def test_when_an_id_is_used_for_another_request_then_that_is_a_conflict(connect: Any) -> None:
    server = Server(connect("main"), say("yes"))
    asker = requester(connect("alice"))
    ask(asker, request=Request(id="fixed"))
    with pytest.raises(Conflict, match="fixed"):
        ask(asker, request=Request(id="fixed", args={"other": 1}))
    assert server.done == ["fixed"]


def test_given_one_id_of_two_users_then_they_are_two_requests(connect: Any) -> None:
    server = Server(connect("main"), say("yes"))
    for user in ("alice", "bob"):
        asker = requester(connect(user), user=user)
        topic = OPERATION(user=user, operation="list")
        asker.ask(topic, Request(id="same"), "control", Answer, Deadline.after(10))
    assert server.done == ["same", "same"]


def test_when_two_clients_of_a_user_retry_one_request_then_both_are_answered(
    connect: Any,
) -> None:
    # A client that was restarted asks again under the same id, and answers go to a new topic.
    kept: Queue[Exchange[Request]] = Queue()
    Server(connect("main"), kept.put)
    topic, request = OPERATION(user="alice", operation="list"), Request()
    bus = connect("alice")
    clients = [requester(bus, client=client) for client in ("c1", "c2")]
    futures = [asker.send(topic, request, "control", Deadline.after(10)) for asker in clients]
    clients[0].send(topic, Request(), "control", Deadline.after(10))
    first, following = kept.get(timeout=10), kept.get(timeout=10)
    assert first.request.id == request.id != following.request.id
    first.succeed(Answer(word="both"))
    assert [future.result(timeout=10) for future in futures] == [{"word": "both"}] * 2


# --- trust --------------------------------------------------------------------------------------


def sniff(connect: Any, inbox: Any) -> tuple[Bus, Any]:
    """A connection that asks by hand, and what it is answered."""
    bus, kept = connect("alice"), inbox()
    subscription = bus.subscribe(REPLY, kept, user="alice")
    wait(subscription.acknowledged, Deadline.after(10), "subscription")
    return bus, kept


def send(bus: Bus, payload: bytes, response_topic: str | None, user: str = "alice") -> None:
    topic = OPERATION(user=user, operation="list")
    published = bus.publish(topic, payload, response_topic=response_topic, correlation=b"c")
    wait(published, Deadline.after(10), "publish")


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
    future = asker.send(topic, Request(), "control", Deadline.after(10))
    _until(lambda: bool(kept and incoming))
    forged = Reply(id=kept[0].request.id, ok={"word": "forged"})
    published = connect("w1").publish(
        REPLY(user="alice", client="c1", sender="w1"), forged, correlation=incoming[0].correlation
    )
    wait(published, Deadline.after(10), "publish")
    kept[0].succeed(Answer(word="true"))
    assert future.result(timeout=10) == {"word": "true"}


def test_when_a_reply_is_garbage_or_nobodys_then_it_is_ignored(connect: Any) -> None:
    control = connect("main")
    asker = requester(connect("alice"))
    topic = REPLY(user="alice", client="c1", sender="control")
    for payload in (b"", b"\xff", b"[]", b'{"id": "x", "error": 1}', b'{"id": "x"}'):
        wait(control.publish(topic, payload), Deadline.after(10), "publish")
        wait(control.publish(topic, payload, correlation=b"?"), Deadline.after(10), "publish")
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
    monkeypatch.setattr(responses_module, "REMEMBERED", 10)
    responder, _bus = quiet_responder()
    assert offer(responder, 0) is not None  # never answered: it must not keep the others alive
    for number in range(1, 100):
        exchange = offer(responder, number)
        assert exchange is not None
        exchange.succeed(Answer(word="x"))
    assert len(responder._answers) <= 11
    assert offer(responder, 99) is None
    assert offer(responder, 1) is not None


def test_given_large_answers_then_they_are_bounded_in_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(responses_module, "REMEMBERED_BYTES", 10_000)
    responder, _bus = quiet_responder()
    for number in range(100):
        exchange = offer(responder, number)
        assert exchange is not None
        exchange.succeed(Answer(word="x" * 1000))
    assert sum(len(answer.payload) for answer in responder._answers.values()) < 12_000
    assert responder._answer_bytes < 12_000


def test_given_requests_that_nobody_finishes_then_more_are_refused_until_they_are_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(responses_module, "OPEN", 5)
    responder, bus = quiet_responder()
    assert all(offer(responder, number) is not None for number in range(5))
    assert offer(responder, 5) is None
    reply = Reply.model_validate_json(bus.sent[0])
    assert reply.id == "r5"
    assert reply.error is not None
    assert isinstance(IcebusError.from_info(reply.error), QueueFull)
    monkeypatch.setattr(responses_module, "REMEMBERED_FOR", -1.0)
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


def test_given_presence_and_requests_on_one_bus_then_they_do_not_disturb_each_other(
    connect: Any,
) -> None:
    bus = connect("alice")
    Server(connect("main"), say("yes"))
    asker = requester(bus)
    bus.publish(
        "user/alice/client/c1/state", ClientState(state=Presence.ONLINE, session="s"), retain=True
    )
    assert ask(asker).word == "yes"


def _until(holds: Callable[[], bool]) -> None:
    deadline = Deadline.after(10)
    while not holds():
        deadline.check("the test")
        time.sleep(0.005)
