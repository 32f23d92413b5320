"""Telling who the broker knows, on ``broker/principals``: names, roles and groups, no secrets."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from icebus.broker.access import Principal
from icebus.broker.accounts import standing
from icebus.bus import Bus
from icebus.schemas.components import KnownPrincipal, Principals
from icebus.schemas.topics import PRINCIPALS, Role


class Roster:
    """A part of the broker's service that keeps the list of principals published."""

    def __init__(self) -> None:
        self._bus: Bus | None = None

    def start(self, bus: Bus, soon: Callable[[Callable[[], None]], bool]) -> None:
        """Begin."""
        self._bus = bus

    def on_principals(self, principals: Mapping[str, Principal]) -> None:
        """Publish who is known."""
        if self._bus is not None:
            self._bus.publish(PRINCIPALS(), roster(principals))

    def tick(self) -> None:
        """Nothing falls due."""

    def stop(self) -> None:
        """End. The list stays: a broker that restarts knows the same people."""


def roster(principals: Mapping[str, Principal]) -> Principals:
    """What others may know of them, in the order of their names."""
    return Principals(
        principals=[
            KnownPrincipal(
                id=name,
                role=each.role.value,
                groups=list(each.groups),
                incarnation=each.incarnation,
                speaks_for=list(each.speaks_for),
            )
            for name, each in sorted((each.id, each) for each in standing(principals.values()))
            if each.role is not Role.BROKER
        ]
    )
