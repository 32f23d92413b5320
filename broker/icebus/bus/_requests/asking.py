"""The asking side of request/response: a future per request, retried until its deadline."""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from icebus.bus._bus import Bus
from icebus.bus._messages import Incoming
from icebus.bus._waiting import wait_for
from icebus.schemas.calls import Reply, Request
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import (
    ClientClosed,
    DeadlineExceeded,
    IcebusError,
    RemoteError,
    TooManyRequests,
)
from icebus.schemas.ids import CONTROL
from icebus.schemas.message import decode, invalid
from icebus.schemas.topics import REPLY, TopicName

log = logging.getLogger(__name__)

RETRY_INTERVAL = 2.0
"""Seconds without an answer after which a request is sent again, under the same id: a message that
a killed member of a shared subscription held is not given to another."""

LEAST_BACK_OFF, LONGEST_BACK_OFF = 0.1, 30.0
"""Seconds to wait at least and at most where we are told that we ask too much."""

LATENESS = 0.25
"""Seconds past the deadline that a waiting caller gives us to say why there is no answer."""

A = TypeVar("A", bound=BaseModel)


class Answer(Future[A]):
    """What will be answered to a request.

    Fails with the error that was answered, with :class:`DeadlineExceeded` when nothing was, and
    with :class:`ClientClosed` when whoever asked is closed. Done on the dispatcher, or at once.
    """

    def __init__(self, sender: str, deadline: Deadline) -> None:
        super().__init__()
        self._sender = sender
        self._deadline = deadline

    def wait(self) -> A:
        """The answer, once it is there. Not for use on the bus's dispatcher."""
        return wait_for(self, Deadline(self._deadline.at + LATENESS), self._sender)


@dataclass
class _Pending(Generic[A]):
    topic: TopicName
    request: Request
    sender: str
    model: type[A]
    deadline: Deadline
    answer: Answer[A]
    correlation: bytes = field(default_factory=lambda: secrets.token_bytes(8))
    attempts: int = 0
    refusal: TooManyRequests | None = None

    def succeed(self, ok: JsonValue) -> None:
        try:
            answer = self.model.model_validate(ok)
        except ValidationError as error:
            unread = invalid(error, f"{self.sender}'s answer")
            self.fail(
                RemoteError(
                    f"{unread.message}; is the farm of another version than this client?",
                    **unread.details,
                )
            )
        else:
            if not self.answer.done():
                self.answer.set_result(answer)

    def fail(self, error: IcebusError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class Requester:
    """Sends requests for one client and matches the answers.

    Args:
        bus: connected or about to be.
        user: who asks; the broker knows us by that name.
        client: the id under which answers come back.
    """

    def __init__(self, bus: Bus, user: str, client: str) -> None:
        self._bus = bus
        self._user = user
        self._client = client
        self._lock = threading.Lock()
        self._closed = False
        self._pending: dict[bytes, _Pending[Any]] = {}
        bus.on_problem(self._on_problem)
        self.subscription = bus.subscribe(REPLY, self._on_reply, user=user, client=client)

    def send(
        self, topic: TopicName, request: Request, sender: str, model: type[A], deadline: Deadline
    ) -> Answer[A]:
        """Send a request; whoever wants to waits for the answer.

        Args:
            topic: where to.
            request: its ``id`` stays the same over retries, so it is done once.
            sender: who may answer: a worker's id or ``control``.
            model: of the answer.
            deadline: when to give up.
        """
        answer = Answer[A](sender, deadline)
        # Control is asked now and then, workers for each handful of evaluations.
        level = logging.INFO if sender == CONTROL else logging.DEBUG
        if log.isEnabledFor(level):
            _log_answer(answer, level, topic, request, sender)
        pending = _Pending(topic, request, sender, model, deadline, answer)
        with self._lock:
            closed = self._closed
            if not closed:
                self._pending[pending.correlation] = pending
        if closed:
            pending.fail(ClientClosed("this client is closed; make a new one"))
        elif (refusal := self._bus.refusal) is not None:
            self._refuse(pending, refusal)
        elif deadline.expired:
            self._refuse(pending, DeadlineExceeded(f"no time left to ask {sender}; allow more"))
        else:
            self._attempt(pending)
        return answer

    def close(self) -> None:
        """Fail what is still unanswered, and refuse all that follows."""
        self.subscription.cancel()
        with self._lock:
            self._closed = True
            pending, self._pending = list(self._pending.values()), {}
        for each in pending:
            each.fail(ClientClosed("the client was closed before an answer came"))

    def _attempt(self, pending: _Pending[Any]) -> None:
        with self._lock:
            if pending.correlation not in self._pending:
                return
            late = pending.deadline.expired
            if late:
                del self._pending[pending.correlation]
            pending.attempts += 1
            attempt = pending.attempts
        if attempt > 1 and not late:
            log.info("request %s is sent to %s again", pending.request.id, pending.sender)
        if late:
            no_answer = DeadlineExceeded(_no_answer(pending.sender, self._bus.problem))
            pending.fail(pending.refusal or no_answer)
            return
        try:
            published = self._bus.publish(
                pending.topic,
                pending.request,
                deadline=pending.deadline,
                response_topic=REPLY(user=self._user, client=self._client, sender=pending.sender),
                correlation=pending.correlation,
            )
        except IcebusError as error:
            self._refuse(pending, error)
            return
        published.add_done_callback(lambda done: self._on_published(pending, done))
        self._attempt_later(pending, RETRY_INTERVAL, attempt)

    def _attempt_later(self, pending: _Pending[Any], seconds: float, attempt: int) -> None:
        """Send it again, unless it was sent again, or answered, by then."""

        def again() -> None:
            if pending.attempts == attempt:
                self._attempt(pending)

        self._bus.call_later(min(seconds, pending.deadline.remaining), again)

    def _back_off(self, pending: _Pending[Any], refusal: TooManyRequests) -> None:
        """We ask more than we may: try again when told, and not all of us at one moment."""
        with self._lock:
            if pending.correlation not in self._pending:
                return
            pending.attempts += 1
            pending.refusal = refusal
            attempt = pending.attempts
        told = refusal.details.get("retry_after")
        least = float(told) if isinstance(told, int | float) else RETRY_INTERVAL
        seconds = min(LONGEST_BACK_OFF, max(LEAST_BACK_OFF, least))
        self._attempt_later(pending, seconds * random.uniform(1.0, 2.0), attempt)

    def _on_published(self, pending: _Pending[Any], done: Future[None]) -> None:
        error = done.exception()
        if isinstance(error, IcebusError):
            self._bus.call_soon(partial(self._refuse, pending, error))

    def _refuse(self, pending: _Pending[Any], error: IcebusError) -> None:
        with self._lock:
            self._pending.pop(pending.correlation, None)
        pending.fail(error)

    def _on_problem(self, _error: IcebusError) -> None:
        refusal = self._bus.refusal
        if refusal is None:
            return
        with self._lock:
            pending, self._pending = list(self._pending.values()), {}
        for each in pending:
            each.fail(refusal)

    def _on_reply(self, incoming: Incoming) -> None:
        reply = decode(Reply, incoming.payload)
        with self._lock:
            pending = self._pending.get(incoming.correlation or b"")
            if pending is None or pending.sender != incoming.ids["sender"]:
                return
            error = None if reply.error is None else IcebusError.from_info(reply.error)
            if not isinstance(error, TooManyRequests):
                del self._pending[pending.correlation]
        if isinstance(error, TooManyRequests):
            self._back_off(pending, error)
        elif error is not None:
            pending.fail(error)
        else:
            pending.succeed(reply.ok)


def _log_answer(
    answer: Answer[A], level: int, topic: TopicName, request: Request, sender: str
) -> None:
    """Say what is asked of whom, and, once that is known, how long it took and what came of it."""
    asked = time.monotonic()
    log.log(level, "request %s to %s: %s", request.id, sender, topic)

    def done(future: Future[A]) -> None:
        error = future.exception()
        log.log(
            level,
            "request %s: %s after %.3f s",
            request.id,
            "answered" if error is None else f"failed ({error})",
            time.monotonic() - asked,
        )

    answer.add_done_callback(done)


def _no_answer(sender: str, problem: IcebusError | None) -> str:
    if problem is not None:
        return f"the broker is away and did not come back in time: {problem.message}"
    return (
        f"{sender} did not answer in time; is it running? `icebus doctor` looks for what is wrong"
    )
