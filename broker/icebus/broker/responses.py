"""The answering side of request/response: checked envelopes, one answer per request id."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import BaseModel

from icebus.broker.bus import Bus, Incoming
from icebus.schemas.calls import Reply, Request
from icebus.schemas.errors import IcebusError, InternalError, InvalidRequest
from icebus.schemas.ids import is_id, new_id
from icebus.schemas.message import decode
from icebus.schemas.topics import REPLY

log = logging.getLogger(__name__)

REMEMBERED = 4096
"""Answers kept for requests that are sent again."""

REMEMBERED_FOR = 600.0
"""Seconds an answer is kept: longer than any client goes on retrying."""

REPLY_EXPIRY = 60.0
"""Seconds a broker keeps an answer for a client that blinked."""

R = TypeVar("R", bound=Request)


@dataclass(frozen=True)
class _Return:
    topic: str
    correlation: bytes | None


@dataclass
class _Remembered:
    returns: list[_Return] = field(default_factory=list)
    reply: Reply | None = None
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
        self.answer(Reply(id=self.request.id, error=error.info()))

    def answer(self, reply: Reply) -> None:
        """Send ``reply``, now and whenever the request comes again."""
        self._responder.send(self.user, reply)


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
        self._answers: OrderedDict[tuple[str, str], _Remembered] = OrderedDict()

    def accept(self, incoming: Incoming, model: type[R]) -> Exchange[R] | None:
        """The exchange to carry out; None when it was answered already or can't be answered."""
        user = incoming.ids["user"]
        back = self._return(user, incoming)
        if incoming.response_topic is not None and back is None:
            log.warning("refused a response topic that is not %s's", user)
            return None
        try:
            request = decode(model, incoming.payload)
        except InvalidRequest as error:
            if back is not None:
                self._publish(back, Reply(id=_id_in(incoming.payload), error=error.info()))
            return None
        key = (user, request.id)
        with self._lock:
            known = self._answers.get(key)
            if known is None:
                self._answers[key] = _Remembered([back] if back else [])
                self._forget_old()
                return Exchange(self, user, request)
            if back is not None and known.reply is None and back not in known.returns:
                known.returns.append(back)
            reply = known.reply
        if reply is not None and back is not None:
            self._publish(back, reply)
        return None

    def send(self, user: str, reply: Reply) -> None:
        """Answer the request of that user and id wherever it came from."""
        with self._lock:
            known = self._answers.get((user, reply.id))
            if known is None or known.reply is not None:
                return
            known.reply, known.at = reply, time.monotonic()
            returns, known.returns = known.returns, []
        for back in returns:
            self._publish(back, reply)

    def _return(self, user: str, incoming: Incoming) -> _Return | None:
        if incoming.response_topic is None:
            return None
        ids = REPLY.parse(incoming.response_topic)
        if ids is None or ids["user"] != user or ids["sender"] != self._sender:
            return None
        return _Return(incoming.response_topic, incoming.correlation)

    def _publish(self, back: _Return, reply: Reply) -> None:
        self._bus.publish(back.topic, reply, expiry=REPLY_EXPIRY, correlation=back.correlation)

    def _forget_old(self) -> None:
        horizon = time.monotonic() - REMEMBERED_FOR
        while self._answers:
            key, oldest = next(iter(self._answers.items()))
            answered = oldest.reply is not None
            if not (oldest.at < horizon or (answered and len(self._answers) > REMEMBERED)):
                return
            del self._answers[key]


def _id_in(payload: bytes) -> str:
    """The id of a request that is otherwise unreadable, so that its sender knows what failed."""
    try:
        found = json.loads(payload)["id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return new_id()
    return found if isinstance(found, str) and is_id(found) else new_id()
