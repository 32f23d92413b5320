"""The answering side of request/response: checked envelopes, one answer per request id."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import BaseModel

from icebus.bus._bus import Bus
from icebus.bus._messages import Incoming
from icebus.schemas.calls import Reply, Request
from icebus.schemas.errors import (
    Conflict,
    IcebusError,
    InternalError,
    InvalidRequest,
    MessageTooLarge,
    QueueFull,
)
from icebus.schemas.ids import is_id, new_id
from icebus.schemas.message import decode
from icebus.schemas.topics import REPLY, TopicName

log = logging.getLogger(__name__)

REMEMBERED = 4096
"""Answers kept for requests that are sent again."""

REMEMBERED_BYTES = 16 << 20
"""Bytes of answers kept: a list of a thousand devices is half a megabyte."""

OPEN = 4096
"""Requests that may be in work at once; more are refused, for nobody would live to see them."""

REMEMBERED_FOR = 600.0
"""Seconds an answer is kept: longer than any client goes on retrying."""

R = TypeVar("R", bound=Request)


@dataclass(frozen=True)
class _ReplyTo:
    topic: TopicName
    correlation: bytes | None


@dataclass
class _OpenRequest:
    digest: bytes
    reply_to: list[_ReplyTo]
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class _Answer:
    digest: bytes
    payload: bytes
    at: float = field(default_factory=time.monotonic)


class Exchange(Generic[R]):
    """One request and the one answer it gets."""

    def __init__(self, responder: Responder, user: str, request: R) -> None:
        self._responder = responder
        self.user = user
        self.request = request

    def succeed(self, answer: BaseModel) -> None:
        """Answer ``ok``."""
        self.answer(Reply(id=self.request.id, ok=answer.model_dump(mode="json")))

    def fail(self, error: BaseException) -> None:
        """Answer with an error; one that is not ours is logged and hidden behind its id."""
        if not isinstance(error, IcebusError):
            log.error("request %s failed", self.request.id, exc_info=error)
            error = InternalError(
                f"internal error on request {self.request.id}; the log has the details"
            )
        else:
            _say_refused(self.user, error)
        self.answer(Reply(id=self.request.id, error=error.info()))

    def answer(self, reply: Reply) -> None:
        """Send ``reply``, now and whenever the request comes again."""
        self._responder.answer(self.user, reply)


class Responder:
    """Turns messages on a request topic into exchanges, and remembers their answers.

    The answer goes to exactly the response topic the request names, which must belong to the user
    whose topic the request came on: nobody can have us write to somebody else.

    Args:
        bus: to answer on.
        sender: who we are in reply topics: a worker's id or ``control``.
    """

    def __init__(self, bus: Bus, sender: str) -> None:
        self._bus = bus
        self._sender = sender
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[str, str], _OpenRequest] = OrderedDict()
        self._answers: OrderedDict[tuple[str, str], _Answer] = OrderedDict()
        self._answer_bytes = 0

    def accept(self, incoming: Incoming, model: type[R]) -> Exchange[R] | None:
        """The exchange to carry out; None when it was answered already or can't be answered."""
        user = incoming.ids["user"]
        reply_to = self._reply_to(user, incoming)
        if incoming.response_topic is not None and reply_to is None:
            log.warning("refused a response topic that is not %s's", user, extra={"subject": user})
            return None
        try:
            request = decode(model, incoming.payload)
        except InvalidRequest as error:
            _say_refused(user, error)
            if reply_to is not None:
                reply = Reply(id=_id_in(incoming.payload), error=error.info())
                self._publish(reply_to, _payload(reply))
            return None
        key = (user, request.id)
        digest = _digest(incoming)
        with self._lock:
            self._forget_old()
            answer = self._answers.get(key)
            waiting = self._open.get(key)
            full = len(self._open) >= OPEN
            known = waiting or answer
            other = known is not None and known.digest != digest
            if waiting is not None and not other:
                if reply_to is not None and reply_to not in waiting.reply_to:
                    waiting.reply_to.append(reply_to)
                return None
            if known is None and not full:
                self._open[key] = _OpenRequest(digest, [reply_to] if reply_to else [])
                return Exchange(self, user, request)
        if reply_to is not None:
            refusal: IcebusError = QueueFull(
                f"{self._sender} has {OPEN} requests in work; try again later"
            )
            if other:
                refusal = Conflict(
                    f"request {request.id} was used before for something else; "
                    "give every request an id of its own"
                )
            payload = _payload(Reply(id=request.id, error=refusal.info()))
            self._publish(reply_to, payload if other or answer is None else answer.payload)
        return None

    def answer(self, user: str, reply: Reply) -> None:
        """Answer the request of that user and id wherever it came from."""
        key = (user, reply.id)
        with self._lock:
            waiting = self._open.pop(key, None)
            if waiting is None:
                return
            payload = self._remember(key, waiting.digest, reply)
        try:
            self._publish_all(waiting.reply_to, payload)
        except MessageTooLarge as error:
            with self._lock:
                payload = self._remember(
                    key, waiting.digest, Reply(id=reply.id, error=error.info())
                )
            self._publish_all(waiting.reply_to, payload)

    def _remember(self, key: tuple[str, str], digest: bytes, reply: Reply) -> bytes:
        # Called with the lock held, in the step that closes the request: it is never done twice.
        payload = _payload(reply)
        replaced = self._answers.get(key)
        self._answer_bytes += len(payload) - (len(replaced.payload) if replaced else 0)
        self._answers[key] = _Answer(digest, payload)
        return payload

    def _reply_to(self, user: str, incoming: Incoming) -> _ReplyTo | None:
        if incoming.response_topic is None:
            return None
        ids = REPLY.parse(incoming.response_topic)
        if ids is None or ids["user"] != user or ids["sender"] != self._sender:
            return None
        return _ReplyTo(TopicName(incoming.response_topic, REPLY), incoming.correlation)

    def _publish_all(self, recipients: list[_ReplyTo], payload: bytes) -> None:
        for reply_to in recipients:
            self._publish(reply_to, payload)

    def _publish(self, reply_to: _ReplyTo, payload: bytes) -> None:
        self._bus.publish(reply_to.topic, payload, correlation=reply_to.correlation)

    def _forget_old(self) -> None:
        horizon = time.monotonic() - REMEMBERED_FOR
        while self._open:
            key, oldest = next(iter(self._open.items()))
            if oldest.at >= horizon:
                break
            del self._open[key]
        while self._answers:
            key, answer = next(iter(self._answers.items()))
            too_many = len(self._answers) > REMEMBERED or self._answer_bytes > REMEMBERED_BYTES
            if answer.at >= horizon and not too_many:
                break
            del self._answers[key]
            self._answer_bytes -= len(answer.payload)


def _digest(incoming: Incoming) -> bytes:
    """What tells a request that is sent again from another one that bears its id."""
    return hashlib.sha256(f"{incoming.topic}\n".encode() + incoming.payload).digest()


def _payload(reply: Reply) -> bytes:
    return reply.model_dump_json().encode()


def _id_in(payload: bytes) -> str:
    """The id of a request that is otherwise unreadable, so that its sender knows what failed."""
    try:
        found = json.loads(payload)["id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return new_id()
    return found if isinstance(found, str) and is_id(found) else new_id()


def _say_refused(user: str, error: IcebusError) -> None:
    """Log who is refused what, a few times for each of them and then by the count."""
    log.info("refused %s: %s", user, error.message, extra={"subject": user})
