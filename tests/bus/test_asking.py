"""Asking: one answer to each request, whatever is sent again, or why there is none."""

from __future__ import annotations

import threading
import time
from queue import Queue
from typing import Any

import pytest
from tests.bus.exchanges import Answer, Server, ask, requester, say

from icebus.bus import Exchange
from icebus.bus._requests import asking
from icebus.schemas.calls import Reply, Request
from icebus.schemas.components import ClientState, Presence
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import (
    BrokerUnavailable,
    Conflict,
    DeadlineExceeded,
    InternalError,
    MessageTooLarge,
    NotAuthorized,
    NotEnoughDevices,
    RemoteError,
)
from icebus.schemas.topics import ADMIN, CLIENT_STATE, OPERATION

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
    with pytest.raises(RemoteError, match="word is missing"):
        ask(requester(connect("alice")))


def test_when_the_answer_is_too_large_then_the_asker_is_told(connect: Any) -> None:
    Server(connect("main"), say("x" * (3 << 20)))
    with pytest.raises(MessageTooLarge):
        ask(requester(connect("alice")))


def test_when_nobody_answers_then_the_deadline_is_the_error(connect: Any) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="is it running"):
        ask(requester(connect("alice")), seconds=0.3)
    assert time.monotonic() - began < 10


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
        asker.send(topic, Request(), "control", Answer, Deadline.after(10)).wait()


def test_when_the_request_is_too_large_then_it_fails_at_once(connect: Any) -> None:
    with pytest.raises(MessageTooLarge):
        ask(requester(connect("alice")), request=Request(args={"x": "x" * (3 << 20)}))


def test_when_closed_then_what_is_unanswered_fails(connect: Any) -> None:
    asker = requester(connect("alice"))
    topic = OPERATION(user="alice", operation="list")
    future = asker.send(topic, Request(), "control", Answer, Deadline.after(60))
    asker.close()
    assert isinstance(future.exception(timeout=1), BrokerUnavailable)


# --- sent again ---------------------------------------------------------------------------------


def test_when_sent_again_then_done_once_and_answered(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "RETRY_INTERVAL", 0.05)
    kept: list[Exchange[Request]] = []
    server = Server(connect("main"), kept.append)
    asker = requester(connect("alice"))
    request = Request()
    topic = OPERATION(user="alice", operation="list")
    future = asker.send(topic, request, "control", Answer, Deadline.after(10))
    late = threading.Event()
    late.wait(0.4)
    assert server.done == [request.id]
    kept[0].succeed(Answer(word="late"))
    assert future.wait().word == "late"
    assert len(kept) == 1


def test_when_the_first_sending_is_lost_then_a_later_one_is_answered(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "RETRY_INTERVAL", 0.05)
    asker = requester(connect("alice"))
    topic = OPERATION(user="alice", operation="list")
    future = asker.send(topic, Request(), "control", Answer, Deadline.after(10))
    threading.Event().wait(0.1)
    Server(connect("main"), say("after all"))
    assert future.wait().word == "after all"


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
        asker.send(topic, Request(id="same"), "control", Answer, Deadline.after(10)).wait()
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
    futures = [
        asker.send(topic, request, "control", Answer, Deadline.after(10)) for asker in clients
    ]
    clients[0].send(topic, Request(), "control", Answer, Deadline.after(10))
    first, following = kept.get(timeout=10), kept.get(timeout=10)
    assert first.request.id == request.id != following.request.id
    first.succeed(Answer(word="both"))
    assert [future.wait().word for future in futures] == ["both"] * 2


def test_given_states_and_requests_on_one_bus_then_they_do_not_disturb_each_other(
    connect: Any,
) -> None:
    bus = connect("alice")
    Server(connect("main"), say("yes"))
    asker = requester(bus)
    state = ClientState(state=Presence.ONLINE, session="s")
    bus.publish(CLIENT_STATE(user="alice", client="c1"), state, interval=20)
    assert ask(asker).word == "yes"
