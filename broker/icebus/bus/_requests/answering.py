"""The answering side of request/response: checked envelopes, one answer per request id."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from typing import Generic, TypeVar

from pydantic import BaseModel

from icebus.bus._bus import Bus
from icebus.bus._messages import Incoming
from icebus.bus._requests.request_memory import ReplyTo, RequestMemory
from icebus.schemas.calls import Reply, Request
from icebus.schemas.errors import (
    IcebusError,
    InternalError,
    InvalidRequest,
    MessageTooLarge,
)
from icebus.schemas.ids import is_id, new_id
from icebus.schemas.message import count_elements, decode
from icebus.schemas.topics import LARGEST_REQUEST, REPLY, TopicName

log = logging.getLogger(__name__)

MOST_ELEMENTS = 50_000
"""Values in one request, about: its brackets, braces and commas. A list of a million takes fifty
times the memory of its text, and that for as long as the request is in work."""

ELEMENT_BYTES = 100
"""Bytes that a value takes in memory, about."""

OK = "ok"
"""Outcome of a request that was carried out."""

R = TypeVar("R", bound=Request)


class Exchange(Generic[R]):
    """One request and the one answer it gets.

    Attributes:
        user: who asks.
        request: what for.
        began: when it was taken, on the monotonic clock.
        outcome: ``ok``, or the code of the error that it was answered with; empty before.
    """

    def __init__(self, responder: Responder, user: str, request: R) -> None:
        self._responder = responder
        self.user = user
        self.request = request
        self.began = time.monotonic()
        self.outcome = ""

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
        self.outcome = OK if reply.error is None else reply.error.code
        self._responder.answer(self.user, reply)

    def leave(self) -> None:
        """Leave it to others who hear the same requests: whoever asks sends it again."""
        self._responder.forget(self.user, self.request.id)


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
        self._memory = RequestMemory(sender)

    def accept(self, incoming: Incoming, model: type[R]) -> Exchange[R] | None:
        """The exchange to carry out; None when it was answered already or can't be answered."""
        user = incoming.ids["user"]
        reply_to = self._reply_to(user, incoming)
        if incoming.response_topic is not None and reply_to is None:
            log.warning(
                "refused a request of %s, whose answer is wanted on %.100r: it goes to "
                "user/%s/client/{client}/reply/%s or to nobody",
                user,
                incoming.response_topic,
                user,
                self._sender,
                extra={"subject": user},
            )
            return None
        try:
            elements = count_elements(incoming.payload)
            if elements > MOST_ELEMENTS:
                raise InvalidRequest(f"{elements} values; send at most {MOST_ELEMENTS} at once")
            request = decode(model, incoming.payload)
        except InvalidRequest as error:
            _say_refused(user, error)
            if reply_to is not None:
                reply = Reply(id=_id_in(incoming.payload), error=error.info())
                self._publish(reply_to, _payload(reply))
            return None
        size = len(incoming.payload) + ELEMENT_BYTES * elements
        try:
            begun = self._memory.begin(user, request.id, _digest(incoming), size, reply_to)
        except IcebusError as error:
            _say_refused(user, error)
            if reply_to is not None:
                self._publish(reply_to, _payload(Reply(id=request.id, error=error.info())))
            return None
        if begun is True:
            return Exchange(self, user, request)
        if begun is not False and reply_to is not None:
            self._publish(reply_to, begun)
        return None

    def refuse(self, incoming: Incoming, error: IcebusError) -> None:
        """Tell who has sent a message that it was not taken, if an answer is wanted."""
        reply_to = self._reply_to(incoming.ids["user"], incoming)
        if reply_to is not None:
            small = len(incoming.payload) <= LARGEST_REQUEST
            request = _id_in(incoming.payload) if small else new_id()
            self._publish(reply_to, _payload(Reply(id=request, error=error.info())))

    def answer(self, user: str, reply: Reply) -> None:
        """Answer the request of that user and id wherever it came from."""
        payload = _payload(reply)
        recipients = self._memory.finish(user, reply.id, payload)
        try:
            self._publish_all(recipients, payload)
        except MessageTooLarge as error:
            payload = _payload(Reply(id=reply.id, error=error.info()))
            self._memory.replace(user, reply.id, payload)
            self._publish_all(recipients, payload)

    def forget(self, user: str, request: str) -> None:
        """Answer a request as a new one when it comes again."""
        self._memory.forget(user, request)

    def _reply_to(self, user: str, incoming: Incoming) -> ReplyTo | None:
        if incoming.response_topic is None:
            return None
        ids = REPLY.parse(incoming.response_topic)
        if ids is None or ids["user"] != user or ids["sender"] != self._sender:
            return None
        return ReplyTo(TopicName(incoming.response_topic, REPLY), incoming.correlation)

    def _publish_all(self, recipients: list[ReplyTo], payload: bytes) -> None:
        for reply_to in recipients:
            self._publish(reply_to, payload)

    def _publish(self, reply_to: ReplyTo, payload: bytes) -> None:
        self._bus.publish(reply_to.topic, payload, correlation=reply_to.correlation)


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
