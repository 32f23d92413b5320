"""The broker's own log, published as components' are; and of theirs, what nobody may inherit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from icebus.broker.access import Principal
from icebus.bus import Allowance, Bus, FromComponents, Incoming, LogPublisher
from icebus.schemas.ids import BROKER
from icebus.schemas.topics import LOG_RECENT, Role

MOST_REMEMBERED = 1000
"""Names of which lines are retained; there are as many as components."""

RECENT = Allowance(per_second=2, at_once=20, bytes_per_second=128 << 10, bytes_at_once=1 << 20)
"""Of one component that are looked at: each sends one in five seconds, and one whose key was stolen
must not keep this service from its work."""


class Logs:
    """A part of the broker's service that publishes what this process logs.

    It also clears the latest lines of components that were removed: whoever gets the name later
    could read them.
    """

    def __init__(self) -> None:
        self._bus: Bus | None = None
        self._soon: Callable[[Callable[[], None]], bool] | None = None
        self._publisher: LogPublisher | None = None
        self._known: dict[str, str | None] | None = None
        self._retained: set[tuple[str, str]] = set()

    def start(self, bus: Bus, soon: Callable[[Callable[[], None]], bool]) -> None:
        """Begin, again for each attempt to connect."""
        self.stop()
        self._bus, self._soon = bus, soon
        self._publisher = LogPublisher(bus, Role.BROKER, BROKER)
        bus.subscribe(LOG_RECENT, self._on_recent, FromComponents(lambda _: RECENT))

    def on_principals(self, principals: Mapping[str, Principal]) -> None:
        """Clear what is left of those who are known no more, or whose name another has."""
        known = {
            name: each.incarnation
            for each in principals.values()
            for name in (each.id, *each.own_ids)
        }
        before, self._known = self._known or {}, known
        gone = [name for name in before if before[name] != known.get(name, "")]
        for role, name in list(self._retained):
            if name in gone or name not in known:
                self._clear(role, name)

    def tick(self) -> None:
        """Nothing falls due."""

    def stop(self) -> None:
        """End, with what was logged by now."""
        if self._publisher is not None:
            self._publisher.close()
            self._publisher = None

    def _on_recent(self, incoming: Incoming) -> None:
        role, name, there = incoming.ids["role"], incoming.ids["id"], bool(incoming.payload)
        if self._soon is not None:
            self._soon(lambda: self._note(role, name, there=there))

    def _note(self, role: str, name: str, *, there: bool) -> None:
        if not there:
            self._retained.discard((role, name))
        elif self._known is not None and name not in self._known:
            self._clear(role, name)
        elif len(self._retained) < MOST_REMEMBERED:
            self._retained.add((role, name))

    def _clear(self, role: str, name: str) -> None:
        self._retained.discard((role, name))
        if self._bus is not None:
            self._bus.clear(LOG_RECENT(role=role, id=name))
