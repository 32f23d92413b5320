"""Clearing what is retained of users who were removed, so that no successor of the name has it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from icebus.broker.access import Principal
from icebus.bus import Bus, Incoming
from icebus.schemas.components import ClientState, Presence
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.message import decode
from icebus.schemas.topics import CLIENT_STATE, EXPERIMENT, TopicName

LAST_WILLS = 30.0
"""Seconds within which the broker has told the last wills of those whose connections it ended."""


class Departures:
    """A part of the broker's service that compares what is retained with who is known.

    Also at its start, so that a removal counts that nobody was there to see.
    """

    def __init__(self) -> None:
        self._bus: Bus | None = None
        self._soon: Callable[[Callable[[], None]], bool] | None = None
        self._known: dict[str, str | None] | None = None
        self._retained: set[tuple[str, str]] = set()
        self._gone: set[tuple[str, str]] = set()
        self._replaced: dict[str, float] = {}
        self._experiments: dict[TopicName, str] = {}

    def start(self, bus: Bus, soon: Callable[[Callable[[], None]], bool]) -> None:
        """Begin."""
        self._bus, self._soon = bus, soon
        bus.subscribe(CLIENT_STATE, self._on_client)
        bus.subscribe(EXPERIMENT, self._on_experiment)

    def on_principals(self, principals: Mapping[str, Principal]) -> None:
        """Learn who is known; what is left of others is cleared."""
        before = self._known or {}
        known = self._known = {name: each.incarnation for name, each in principals.items()}
        for name, incarnation in known.items():
            if name in before and before[name] != incarnation:
                self._replaced[name] = time.monotonic()
                # Whoever has the name now says soon how theirs stand.
                self._clear_experiments(name.__eq__)
        self._clear([each for each in self._retained if each[0] not in known])
        # Clients of whoever has the name now may be there already; those of the former are gone.
        self._clear([each for each in self._gone if each[0] in self._replaced])
        self._clear_experiments(lambda user: user not in known)

    def tick(self) -> None:
        """No last will comes any more of clients of somebody whose name another has."""
        late = time.monotonic() - LAST_WILLS
        self._replaced = {name: at for name, at in self._replaced.items() if at > late}

    def stop(self) -> None:
        """End."""

    def _on_client(self, incoming: Incoming) -> None:
        user, client = incoming.ids["user"], incoming.ids["client"]
        there, first = bool(incoming.payload), incoming.retained
        gone = there and _is_gone(incoming.payload)
        if self._soon is not None:
            self._soon(lambda: self._note(user, client, there=there, first=first, gone=gone))

    def _note(self, user: str, client: str, *, there: bool, first: bool, gone: bool) -> None:
        (self._retained.add if there else self._retained.discard)((user, client))
        (self._gone.add if gone else self._gone.discard)((user, client))
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
            self._experiments.pop(topic, None)
            return
        self._experiments[topic] = user
        if self._known is not None and user not in self._known:
            self._clear_experiments(lambda each: each == user)

    def _clear_experiments(self, of: Callable[[str], bool]) -> None:
        for topic in [topic for topic, user in self._experiments.items() if of(user)]:
            del self._experiments[topic]
            if self._bus is not None:
                self._bus.clear(topic)

    def _clear(self, left: list[tuple[str, str]]) -> None:
        for user, client in left:
            self._retained.discard((user, client))
            self._gone.discard((user, client))
            if self._bus is not None:
                self._bus.clear(CLIENT_STATE(user=user, client=client))


def _is_gone(payload: bytes) -> bool:
    try:
        return decode(ClientState, payload).state is not Presence.ONLINE
    except InvalidRequest:
        return True
