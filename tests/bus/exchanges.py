"""A control that does what a test says, and somebody who asks it."""

from __future__ import annotations

from collections.abc import Callable

from tests.connections import soon

from icebus.bus import Bus, Exchange, Incoming, Requester, Responder, wait_for
from icebus.schemas.calls import Request
from icebus.schemas.deadline import Deadline
from icebus.schemas.message import Message
from icebus.schemas.topics import OPERATION, shared_requests

Act = Callable[[Exchange[Request]], None]


class Answer(Message):
    word: str


class Server:
    """A control that does what it is told and counts what it did."""

    def __init__(self, bus: Bus, act: Act) -> None:
        self.done: list[str] = []
        self._act = act
        self.responder = Responder(bus, "control")
        subscription = bus.subscribe(OPERATION, self._on_request, shared=shared_requests("secret"))
        wait_for(subscription.acknowledged, soon(), "the broker")

    def _on_request(self, incoming: Incoming) -> None:
        exchange = self.responder.accept(incoming, Request)
        if exchange is not None:
            self.done.append(exchange.request.id)
            self._act(exchange)


def say(word: str) -> Act:
    return lambda exchange: exchange.succeed(Answer(word=word))


def requester(bus: Bus, user: str = "alice", client: str = "c1") -> Requester:
    made = Requester(bus, user, client)
    wait_for(made.subscription.acknowledged, soon(), "the broker")
    return made


def ask(asker: Requester, seconds: float = 10, request: Request | None = None) -> Answer:
    topic = OPERATION(user="alice", operation="list")
    deadline = Deadline.after(seconds)
    return asker.send(topic, request or Request(), "control", Answer, deadline).wait()
