"""Requests in work and answers given, by user: bounded for each, so that none crowds out another's.

Any thread may use it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from icebus.schemas.errors import Conflict, TooManyRequests
from icebus.schemas.topics import TopicName

REMEMBERED = 1024
"""Answers of one user kept for requests that are sent again."""

REMEMBERED_BYTES = 8 << 20
"""Bytes of them: a list of a thousand devices is half a megabyte."""

REMEMBERED_BYTES_OF_ALL = 32 << 20
"""Bytes of answers kept, of all users; beyond that, who has most of them loses the oldest."""

OPEN = 1024
"""Requests of one user that may be in work at once; more are refused, and can be sent again."""

OPEN_BYTES = 16 << 20
"""Bytes that they take, about."""

OPEN_BYTES_OF_ALL = 64 << 20
"""Bytes that those of all users take; beyond that nobody may have more than an equal part."""

KEPT_FOR = 600.0
"""Seconds an answer is kept: longer than any client goes on retrying."""

RETRY_AFTER = 1.0
"""Seconds after which one that was refused may be sent again."""


@dataclass(frozen=True)
class ReplyTo:
    """Where an answer is wanted."""

    topic: TopicName
    correlation: bytes | None


@dataclass
class OpenRequest:
    """A request in work."""

    digest: bytes
    size: int
    reply_to: list[ReplyTo]
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class _Answer:
    digest: bytes
    payload: bytes
    at: float = field(default_factory=time.monotonic)


@dataclass
class _OfUser:
    open: OrderedDict[str, OpenRequest] = field(default_factory=OrderedDict)
    open_bytes: int = 0
    answers: OrderedDict[str, _Answer] = field(default_factory=OrderedDict)
    answer_bytes: int = 0

    def drop_open(self, request: str) -> OpenRequest | None:
        """Take a request out of those in work."""
        found = self.open.pop(request, None)
        if found is not None:
            self.open_bytes -= found.size
        return found

    def drop_answer(self, request: str) -> None:
        """Forget an answer."""
        found = self.answers.pop(request, None)
        if found is not None:
            self.answer_bytes -= len(found.payload)


class RequestMemory:
    """What is in work for users, and what they were answered.

    Args:
        who: keeps it, for messages.
    """

    def __init__(self, who: str) -> None:
        self._who = who
        self._lock = threading.Lock()
        self._users: dict[str, _OfUser] = {}

    def begin(
        self, user: str, request: str, digest: bytes, size: int, reply_to: ReplyTo | None
    ) -> bool | bytes:
        """Take a request into work.

        Args:
            user: who asks.
            request: its id.
            digest: of all that it says, to tell one that is sent again from another of its id.
            size: bytes that it takes while it is in work.
            reply_to: where the answer is wanted.

        Returns:
            True for a new one, False for one in work, and the answer of one that was answered.

        Raises:
            Conflict: another request of that user bore the id.
            TooManyRequests: too many of that user's are in work.
        """
        with self._lock:
            known = self._users.get(user)
            if known is None:
                known = self._users[user] = _OfUser()
            self._forget_old(known)
            waiting, answer = known.open.get(request), known.answers.get(request)
            before = waiting or answer
            if before is not None and before.digest != digest:
                raise Conflict(
                    f"request {request} was used before for something else; "
                    "give every request an id of its own"
                )
            if waiting is not None:
                if reply_to is not None and reply_to not in waiting.reply_to:
                    waiting.reply_to.append(reply_to)
                return False
            if answer is not None:
                return answer.payload
            self._check_room(known, size)
            known.open[request] = OpenRequest(digest, size, [reply_to] if reply_to else [])
            known.open_bytes += size
            return True

    def finish(self, user: str, request: str, payload: bytes) -> list[ReplyTo]:
        """A request is answered; where to send that. It is remembered in the same step."""
        with self._lock:
            known = self._users.get(user)
            waiting = None if known is None else known.drop_open(request)
            if known is None or waiting is None:
                return []
            self._remember(known, request, waiting.digest, payload)
            return waiting.reply_to

    def forget(self, user: str, request: str) -> None:
        """A request is no more in work, and was not answered: it is new when it comes again."""
        with self._lock:
            if (known := self._users.get(user)) is not None:
                known.drop_open(request)

    def replace(self, user: str, request: str, payload: bytes) -> None:
        """Remember another answer than the one given, which can't be sent."""
        with self._lock:
            known = self._users.get(user)
            answer = None if known is None else known.answers.get(request)
            if known is not None and answer is not None:
                self._remember(known, request, answer.digest, payload)

    def size(self, user: str) -> tuple[int, int]:
        """How many answers of a user are kept, and how many bytes they have."""
        known = self._users.get(user, _OfUser())
        return len(known.answers), known.answer_bytes

    def _check_room(self, known: _OfUser, size: int) -> None:
        full = len(known.open) >= OPEN or known.open_bytes + size > OPEN_BYTES
        if known.open and not full:
            total = sum(each.open_bytes for each in self._users.values())
            fair = OPEN_BYTES_OF_ALL / sum(bool(each.open) for each in self._users.values())
            full = total + size > OPEN_BYTES_OF_ALL and known.open_bytes + size > fair
        if full and known.open:
            raise TooManyRequests(
                f"{self._who} has {len(known.open)} requests of yours in work; wait for some of "
                "them before you send more",
                open=len(known.open),
                retry_after=RETRY_AFTER,
            )

    def _remember(self, known: _OfUser, request: str, digest: bytes, payload: bytes) -> None:
        known.drop_answer(request)
        known.answers[request] = _Answer(digest, payload)
        known.answer_bytes += len(payload)
        while len(known.answers) > REMEMBERED or known.answer_bytes > REMEMBERED_BYTES:
            known.drop_answer(next(iter(known.answers)))
        while sum(each.answer_bytes for each in self._users.values()) > REMEMBERED_BYTES_OF_ALL:
            most = max(self._users.values(), key=lambda each: each.answer_bytes)
            most.drop_answer(next(iter(most.answers)))

    def _forget_old(self, known: _OfUser) -> None:
        horizon = time.monotonic() - KEPT_FOR
        while known.open and next(iter(known.open.values())).at < horizon:
            known.drop_open(next(iter(known.open)))
        while known.answers and next(iter(known.answers.values())).at < horizon:
            known.drop_answer(next(iter(known.answers)))
