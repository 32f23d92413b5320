"""Clearing what is retained of users who were removed, so that no successor of the name has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from icebus.broker.access import Principal
from icebus.bus import Bus, Incoming
from icebus.schemas.topics import CLIENT_STATE


class Departures:
    """A part of the broker's service that compares what is retained with who is known.

    Also at its start, so that a removal counts that nobody was there to see.
    """

    def __init__(self) -> None:
        self._bus: Bus | None = None
        self._soon: Callable[[Callable[[], None]], bool] | None = None
        self._known: frozenset[str] | None = None
        self._retained: set[tuple[str, str]] = set()

    def start(self, bus: Bus, soon: Callable[[Callable[[], None]], bool]) -> None:
        """Begin."""
        self._bus, self._soon = bus, soon
        bus.subscribe(CLIENT_STATE, self._on_client)

    def on_principals(self, principals: Mapping[str, Principal]) -> None:
        """Learn who is known; what is left of others is cleared."""
        self._known = frozenset(principals)
        self._clear([each for each in self._retained if each[0] not in self._known])

    def tick(self) -> None:
        """Nothing falls due."""

    def stop(self) -> None:
        """End."""

    def _on_client(self, incoming: Incoming) -> None:
        user, client = incoming.ids["user"], incoming.ids["client"]
        there, first = bool(incoming.payload), incoming.retained
        if self._soon is not None:
            self._soon(lambda: self._note(user, client, there=there, first=first))

    def _note(self, user: str, client: str, *, there: bool, first: bool) -> None:
        (self._retained.add if there else self._retained.discard)((user, client))
        # One that is said just now may be of somebody of whom we are only about to hear.
        if there and first and self._known is not None and user not in self._known:
            self._clear([(user, client)])

    def _clear(self, left: list[tuple[str, str]]) -> None:
        for user, client in left:
            self._retained.discard((user, client))
            if self._bus is not None:
                self._bus.clear(CLIENT_STATE(user=user, client=client))
