"""Which messages of users are taken off the network, by topic and size, before they are read.

Whatever users may write comes past here; what only components write is taken unless it is said how
much of it. A refusal
costs microseconds, so that who floods holds up nobody else; some of them are told to their sender,
and each flood is logged when it begins, while it lasts and when it has ended, with who and how
many.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from icebus.bus._admission.allowances import Allowance, Bucket
from icebus.bus._admission.turns import Turns
from icebus.schemas.errors import IcebusError, MessageTooLarge, TooManyRequests
from icebus.schemas.topics import Topic, users_write

log = logging.getLogger(__name__)

LONGEST_PROPERTIES = 1024
"""Bytes of a user's message that are no payload and no topic: a response topic of 200, correlation
data and the encoding of a file. Thousands of properties would take milliseconds to read."""

WAITING_BYTES = 64 << 20
"""Bytes of all users that wait; beyond that, who has more than an equal part of it is refused."""

TOLD_PER_SECOND = 5.0
"""Refusals a second that their sender is told of, for each user and family of topics. Whoever is
not told asks again after a while, as with any message that was lost."""

ENDED_AFTER = 10.0
"""Seconds without a refusal after which a flood has ended."""

REPEAT_AFTER = 300.0
"""Seconds after which a flood that lasts is logged again."""

SENDERS = 4096
"""Users and families of topics that are remembered. The broker lets nobody write for another, so
there are no more of them than people."""

USER = "user"
"""The level of topics that names a user."""

ALLOWANCE_KEPT = 0.05
"""Seconds for which what a user may send is taken as known."""

Allow = Callable[[str], Allowance]
"""What a user of that name may send."""


@dataclass(frozen=True)
class Judgement:
    """What becomes of a message of a user.

    Attributes:
        user: who has sent it.
        refusal: why it is not taken; None where it is.
        told: whether its sender is to be told.
    """

    user: str
    refusal: IcebusError | None = None
    told: bool = False


@dataclass(frozen=True)
class _Family:
    """A family of topics, as its topics are told from others: by the levels that are no ids."""

    topic: Topic
    allow: Allow
    length: int
    fixed: tuple[tuple[int, bytes], ...]
    sender: int
    of_users: bool

    @classmethod
    def of(cls, prefix: str, topic: Topic, allow: Allow, level: str) -> _Family:
        levels = f"{prefix}{topic.template}".split("/")
        fixed = tuple(
            (at, level.encode()) for at, level in enumerate(levels) if not level.startswith("{")
        )
        sender = levels.index(f"{{{level}}}")
        return cls(topic, allow, len(levels), fixed, sender, level == USER)


@dataclass
class _Flood:
    began: float
    last: float
    logged: float
    refused: int = 0
    size: int = 0


@dataclass
class _Sender:
    """One user on the topics of one family."""

    user: str
    family: Topic
    allow: Allow
    taken: Judgement | None
    dropped: Judgement
    messages: Bucket = field(default_factory=Bucket)
    bytes: Bucket = field(default_factory=Bucket)
    told: Bucket = field(default_factory=Bucket)
    allowance: Allowance = field(default_factory=Allowance)
    known_at: float = -math.inf
    flood: _Flood | None = None


class Admission:
    """Judges the messages of users. On the network thread, but for :meth:`report`.

    Args:
        prefix: of all topics of the farm, with its slash.
        turns: where what is taken waits.
        call_later: has :meth:`report` called on another thread.
    """

    def __init__(
        self, prefix: str, turns: Turns, call_later: Callable[[float, Callable[[], None]], None]
    ) -> None:
        self._prefix = prefix
        self._turns = turns
        self._call_later = call_later
        self._families: dict[str, _Family] = {}
        self._senders: dict[tuple[str, bytes], _Sender] = {}
        self._lock = threading.Lock()
        self._floods: list[_Sender] = []

    def watch(self, family: Topic, allow: Allow | None, level: str = USER) -> None:
        """Judge the messages of a family, if users may write it or it is said how.

        Args:
            family: of topics.
            allow: how much each sender may send; None for the usual.
            level: of its topics that names the sender. What others than users send keeps its place
                among all that comes, and who is refused is not told.
        """
        if level == USER and not users_write(family):
            return
        if allow is not None or family.template not in self._families:
            known = _Family.of(self._prefix, family, allow or _usual, level)
            self._families = {**self._families, family.template: known}
            self._senders.clear()

    def judge(self, topic: bytes, size: int, properties: int, at: float) -> Judgement | None:
        """What becomes of a message; None where no user may have written it.

        Args:
            topic: absolute.
            size: bytes of the whole message.
            properties: bytes of its properties.
            at: now, on the monotonic clock.
        """
        if not self._families or (sender := self._find(topic)) is None:
            return None
        if at - sender.known_at > ALLOWANCE_KEPT:
            sender.known_at = at
            sender.allowance = sender.allow(sender.user)
        allowance = sender.allowance
        if properties > LONGEST_PROPERTIES:
            return self._refuse(sender, size, at, _too_many_properties(sender, properties))
        if size > sender.family.limit + LONGEST_PROPERTIES:
            return self._refuse(sender, size, at, _too_large(sender, size))
        if allowance.refusal is not None:
            return self._refuse(sender, size, at, allowance.refusal)
        messages, volume = sender.messages, sender.bytes
        messages.fill(allowance.per_second, allowance.at_once, at)
        volume.fill(allowance.bytes_per_second, allowance.bytes_at_once, at)
        if not messages.has(1) or not volume.has(size) or self._backlog(sender, size):
            return self._refuse(sender, size, at)
        messages.take(1)
        volume.take(size)
        return sender.taken

    def _backlog(self, sender: _Sender, size: int) -> bool:
        count, waiting = self._turns.waiting(sender.user)
        if count >= sender.allowance.waiting or waiting + size > sender.allowance.waiting_bytes:
            return count > 0
        total, users = self._turns.all_waiting()
        return total + size > WAITING_BYTES and waiting + size > WAITING_BYTES / max(1, users)

    def _find(self, topic: bytes) -> _Sender | None:
        levels = topic.split(b"/")
        for family in self._families.values():
            if len(levels) == family.length and all(
                levels[at] == fixed for at, fixed in family.fixed
            ):
                key = (family.topic.template, levels[family.sender])
                return self._senders.get(key) or self._new_sender(family, key)
        return None

    def _new_sender(self, family: _Family, key: tuple[str, bytes]) -> _Sender:
        if len(self._senders) >= SENDERS:
            self._senders.pop(next(iter(self._senders)))
        user = key[1].decode(errors="replace")
        taken = Judgement(user) if family.of_users else None
        dropped = Judgement(user, TooManyRequests("refused"))
        sender = _Sender(user, family.topic, family.allow, taken, dropped)
        self._senders[key] = sender
        return sender

    def _refuse(
        self,
        sender: _Sender,
        size: int,
        at: float,
        why: IcebusError | None = None,
    ) -> Judgement:
        """Not take a message; for ``why``, or because the sender has sent too many."""
        begins = self._count(sender, size, at)
        sender.told.fill(TOLD_PER_SECOND, TOLD_PER_SECOND, at)
        told = sender.taken is not None and sender.told.has(1)
        if not told and not begins:
            return sender.dropped
        error = why or _too_many(sender, size)
        if begins:
            log.warning(
                "refusing messages of %s: %s",
                sender.user,
                error.message,
                extra={"subject": sender.user},
            )
        if told:
            sender.told.take(1)
        return Judgement(sender.user, error, told)

    # --- floods ---------------------------------------------------------------------------------

    def _count(self, sender: _Sender, size: int, at: float) -> bool:
        """Count a refusal; whether a flood begins with it."""
        with self._lock:
            flood = sender.flood
            begins = flood is None
            if flood is None:
                flood = sender.flood = _Flood(at, at, at)
                self._floods.append(sender)
            flood.refused += 1
            flood.size += size
            flood.last = at
            first = begins and len(self._floods) == 1
        if first:
            self._call_later(ENDED_AFTER, self.report)
        return begins

    def report(self) -> None:
        """Log the floods that have ended, and again those that last."""
        at = time.monotonic()
        said: list[tuple[str, str, _Flood, bool]] = []
        with self._lock:
            for sender in list(self._floods):
                flood = sender.flood
                if flood is None:
                    continue
                ended = at - flood.last >= ENDED_AFTER
                if ended:
                    sender.flood = None
                    self._floods.remove(sender)
                elif at - flood.logged < REPEAT_AFTER:
                    continue
                flood.logged = at
                said.append((sender.user, sender.family.template, flood, ended))
            more = bool(self._floods)
        for user, template, flood, ended in said:
            log.warning(
                "refused %d messages of %s, %d bytes, on %s in %.0f s%s",
                flood.refused,
                user,
                flood.size,
                template,
                flood.last - flood.began,
                "" if ended else "; it goes on",
                extra={"subject": user},
            )
        if more:
            self._call_later(ENDED_AFTER, self.report)


def _usual(_user: str) -> Allowance:
    return Allowance()


def _too_large(sender: _Sender, size: int) -> MessageTooLarge:
    limit = sender.family.limit
    return MessageTooLarge(
        f"a message of {size} bytes on {sender.family.template}, which takes {limit}; send less "
        "at once",
        size=size,
        limit=limit,
    )


def _too_many_properties(sender: _Sender, size: int) -> MessageTooLarge:
    return MessageTooLarge(
        f"{size} bytes of properties of a message on {sender.family.template}, which takes "
        f"{LONGEST_PROPERTIES}: response topic, correlation data and all user properties together",
        size=size,
        limit=LONGEST_PROPERTIES,
    )


def _too_many(sender: _Sender, size: int) -> TooManyRequests:
    allowance = sender.allowance
    wait = max(
        sender.messages.wait(1, allowance.per_second),
        sender.bytes.wait(size, allowance.bytes_per_second),
    )
    return TooManyRequests(
        f"more than {allowance.per_second:g} messages or {allowance.bytes_per_second:g} bytes a "
        f"second on {sender.family.template}; send fewer, and wait before each new try",
        per_second=allowance.per_second,
        bytes_per_second=allowance.bytes_per_second,
        retry_after=round(min(30.0, max(0.1, wait)), 3),
    )
