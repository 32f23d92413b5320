"""The asking side of request/response: a future per request, retried until its deadline."""

from __future__ import annotations

import logging
import secrets
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from icebus.bus._bus import Bus, wait
from icebus.bus._messages import Incoming
from icebus.schemas.calls import Reply, Request
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BrokerUnavailable, DeadlineExceeded, IcebusError, RemoteError
from icebus.schemas.message import decode, invalid
from icebus.schemas.topics import REPLY

log = logging.getLogger(__name__)

RETRY_INTERVAL = 2.0
"""Seconds without an answer after which a request is sent again, under the same id: a message that
a killed member of a shared subscription held is not given to another."""

GRACE = 0.25
"""Seconds past the deadline that a waiting caller gives us to say why there is no answer."""

M = TypeVar("M", bound=BaseModel)


@dataclass
class _Pending:
    topic: str
    request: Request
    sender: str
    correlation: bytes
    deadline: Deadline
    future: Future[JsonValue] = field(default_factory=Future)


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
        self._pending: dict[bytes, _Pending] = {}
        self.subscription = bus.subscribe(REPLY, self._on_reply, user=user, client=client)

    def send(
        self, topic: str, request: Request, sender: str, deadline: Deadline
    ) -> Future[JsonValue]:
        """Send a request; the future has what the answer's ``ok`` holds.

        Args:
            topic: where to, relative to the root.
            request: its ``id`` stays the same over retries, so it is done once.
            sender: who may answer: a worker's id or ``control``.
            deadline: when to give up.

        The future fails with the error that was answered, or :class:`DeadlineExceeded`.
        """
        pending = _Pending(topic, request, sender, secrets.token_bytes(8), deadline)
        with self._lock:
            self._pending[pending.correlation] = pending
        self._attempt(pending)
        return pending.future

    def ask(
        self, topic: str, request: Request, sender: str, answer: type[M], deadline: Deadline
    ) -> M:
        """Send a request and wait for its answer. Not for use on the bus's dispatcher.

        Raises:
            IcebusError: whatever was answered.
            DeadlineExceeded: nothing was.
        """
        future = self.send(topic, request, sender, deadline)
        ok = wait(future, Deadline(deadline.at + GRACE), sender)
        try:
            return answer.model_validate(ok)
        except ValidationError as error:
            unread = invalid(error, f"{sender}'s answer")
            raise RemoteError(
                f"{unread.message}; are both sides of one version?", **unread.details
            ) from None

    def close(self) -> None:
        """Fail what is still unanswered."""
        self.subscription.cancel()
        with self._lock:
            pending, self._pending = list(self._pending.values()), {}
        for each in pending:
            _fail(each.future, BrokerUnavailable("closed before an answer came"))

    def _attempt(self, pending: _Pending) -> None:
        with self._lock:
            if pending.correlation not in self._pending:
                return
            if pending.deadline.expired:
                del self._pending[pending.correlation]
                late = True
            else:
                late = False
        if late:
            _fail(pending.future, DeadlineExceeded(_no_answer(pending, self._bus.connected)))
            return
        try:
            published = self._bus.publish(
                pending.topic,
                pending.request,
                expiry=pending.deadline.remaining,
                response_topic=REPLY(user=self._user, client=self._client, sender=pending.sender),
                correlation=pending.correlation,
            )
        except IcebusError as error:
            self._refuse(pending, error)
            return
        published.add_done_callback(lambda done: self._on_published(pending, done))
        again = min(RETRY_INTERVAL, pending.deadline.remaining)
        self._bus.call_later(again, lambda: self._attempt(pending))

    def _on_published(self, pending: _Pending, done: Future[None]) -> None:
        error = done.exception()
        if isinstance(error, IcebusError):
            self._bus.defer(partial(self._refuse, pending, error))

    def _refuse(self, pending: _Pending, error: IcebusError) -> None:
        with self._lock:
            self._pending.pop(pending.correlation, None)
        _fail(pending.future, error)

    def _on_reply(self, incoming: Incoming) -> None:
        reply = decode(Reply, incoming.payload)
        with self._lock:
            pending = self._pending.get(incoming.correlation or b"")
            if pending is None or pending.sender != incoming.ids["sender"]:
                return
            del self._pending[pending.correlation]
        if reply.error is not None:
            _fail(pending.future, IcebusError.from_info(reply.error))
        elif not pending.future.done():
            pending.future.set_result(reply.ok)


def _fail(future: Future[JsonValue], error: IcebusError) -> None:
    if not future.done():
        future.set_exception(error)


def _no_answer(pending: _Pending, connected: bool) -> str:
    if not connected:
        return "the broker is away and did not come back in time"
    return f"{pending.sender} did not answer in time; is it running? `icebus devices` shows workers"
