"""Clearing what is retained of users who were removed, so that no successor of the name has it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

from icebus.broker.access import Principal
from icebus.bus import Allowance, Bus, FromSenders, Incoming, Subscription
from icebus.schemas.components import ClientState, Presence
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.message import decode
from icebus.schemas.topics import CLIENT_STATE, DEVICE_LOG, EXPERIMENT, TopicName

LAST_WILLS = 30.0
"""Seconds within which the broker has told the last wills of those whose connections it ended."""


MOST_OF_USER = 400
"""Topics of one user that are remembered: twice as many as the broker keeps. A user may write any
number of them, and have none kept."""

LOOK = 10.0
"""Seconds for which it is looked what workers have told those who are known no more."""

LOGS = Allowance(per_second=1000, at_once=2000, bytes_per_second=8 << 20, bytes_at_once=32 << 20)
"""Of one worker that are looked at then: as many as the broker keeps of it."""

T = TypeVar("T", bound=Hashable)


class OfUsers(Generic[T]):
    """What is remembered of each user, the latest of it. Pure."""

    def __init__(self) -> None:
        self._of: dict[str, OrderedDict[T, None]] = {}

    def add(self, user: str, each: T) -> None:
        """Remember something; what was added longest ago makes way."""
        of_user = self._of.setdefault(user, OrderedDict())
        of_user[each] = None
        of_user.move_to_end(each)
        if len(of_user) > MOST_OF_USER:
            of_user.popitem(last=False)

    def discard(self, user: str, each: T) -> None:
        """Forget something."""
        of_user = self._of.get(user, OrderedDict())
        of_user.pop(each, None)
        if not of_user:
            self._of.pop(user, None)

    def take(self, of: Callable[[str], bool]) -> list[tuple[str, T]]:
        """Forget all of some users; returns what it was, with whose."""
        users = [user for user in self._of if of(user)]
        return [(user, each) for user in users for each in self._of.pop(user)]


class Departures:
    """A part of the broker's service that compares what is retained with who is known.

    Also at its start, so that a removal counts that nobody was there to see.
    """

    def __init__(self) -> None:
        self._bus: Bus | None = None
        self._soon: Callable[[Callable[[], None]], bool] | None = None
        self._known: dict[str, str | None] | None = None
        self._retained = OfUsers[str]()
        self._gone = OfUsers[str]()
        self._replaced: dict[str, float] = {}
        self._experiments = OfUsers[TopicName]()
        self._logs: Subscription | None = None
        self._looks_until = 0.0

    def start(self, bus: Bus, soon: Callable[[Callable[[], None]], bool]) -> None:
        """Begin."""
        self._bus, self._soon = bus, soon
        bus.subscribe(CLIENT_STATE, self._on_client)
        bus.subscribe(EXPERIMENT, self._on_experiment)
        self._logs = None

    def on_principals(self, principals: Mapping[str, Principal]) -> None:
        """Learn who is known; what is left of others is cleared."""
        before = self._known or {}
        known = self._known = {name: each.incarnation for name, each in principals.items()}
        for name, incarnation in known.items():
            if name in before and before[name] != incarnation:
                self._replaced[name] = time.monotonic()
                # Whoever has the name now says soon how theirs stand.
                self._clear_experiments(name.__eq__)
        self._clear(self._retained.take(lambda user: user not in known))
        # Clients of whoever has the name now may be there already; those of the former are gone.
        self._clear(self._gone.take(self._replaced.__contains__))
        self._clear_experiments(lambda user: user not in known)
        if not before or self._replaced or before.keys() - known.keys():
            self._look_at_logs()

    def tick(self) -> None:
        """No last will comes any more of clients of somebody whose name another has."""
        late = time.monotonic() - LAST_WILLS
        self._replaced = {name: at for name, at in self._replaced.items() if at > late}
        if self._logs is not None and time.monotonic() > self._looks_until:
            self._logs.cancel()
            self._logs = None

    def stop(self) -> None:
        """End."""

    def _on_client(self, incoming: Incoming) -> None:
        user, client = incoming.ids["user"], incoming.ids["client"]
        there, first = bool(incoming.payload), incoming.retained
        gone = there and _is_gone(incoming.payload)
        if self._soon is not None:
            self._soon(lambda: self._note(user, client, there=there, first=first, gone=gone))

    def _note(self, user: str, client: str, *, there: bool, first: bool, gone: bool) -> None:
        (self._retained.add if there else self._retained.discard)(user, client)
        (self._gone.add if gone else self._gone.discard)(user, client)
        if gone and user in self._replaced:
            self._clear([(user, client)])
            return
        # One that is said just now may be of somebody of whom we are only about to hear.
        if there and first and self._known is not None and user not in self._known:
            self._clear([(user, client)])

    def _on_experiment(self, incoming: Incoming) -> None:
        topic, user, there = (
            EXPERIMENT(**incoming.ids),
            incoming.ids["user"],
            bool(incoming.payload),
        )
        if self._soon is not None:
            self._soon(lambda: self._note_experiment(topic, user, there=there))

    def _note_experiment(self, topic: TopicName, user: str, *, there: bool) -> None:
        if not there:
            self._experiments.discard(user, topic)
            return
        self._experiments.add(user, topic)
        if self._known is not None and user not in self._known:
            self._clear_experiments(lambda each: each == user)

    def _clear_experiments(self, of: Callable[[str], bool]) -> None:
        for _, topic in self._experiments.take(of):
            if self._bus is not None:
                self._bus.clear(topic)

    def _look_at_logs(self) -> None:
        """Hear what is retained of workers' words to users: a worker that is away clears none."""
        if self._bus is not None:
            if self._logs is not None:
                self._logs.cancel()
            self._logs = self._bus.subscribe(DEVICE_LOG, self._on_log, FromSenders(lambda _: LOGS))
            self._looks_until = time.monotonic() + LOOK

    def _on_log(self, incoming: Incoming) -> None:
        known, user = self._known or {}, incoming.ids["user"]
        left = incoming.retained and bool(incoming.payload)
        if left and (user not in known or user in self._replaced) and self._bus is not None:
            self._bus.clear(DEVICE_LOG(**incoming.ids))

    def _clear(self, left: list[tuple[str, str]]) -> None:
        for user, client in left:
            self._retained.discard(user, client)
            self._gone.discard(user, client)
            if self._bus is not None:
                self._bus.clear(CLIENT_STATE(user=user, client=client))


def _is_gone(payload: bytes) -> bool:
    try:
        return decode(ClientState, payload).state is not Presence.ONLINE
    except InvalidRequest:
        return True
