"""Telling everybody of their own account, on ``broker/account/{user}``: what ends, and when."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from icebus.broker.access import Principal
from icebus.broker.accounts import standing
from icebus.broker.service.requests import account
from icebus.bus import Bus, Incoming
from icebus.schemas.operations.accounts import Account
from icebus.schemas.topics import ACCOUNT, Role

TOLD = frozenset({Role.USER, Role.ADMIN, Role.OBSERVER})
"""Roles of those who are told: others know of their certificates themselves."""


class OwnAccounts:
    """A part of the broker's service that keeps what people are told true, and of nobody else."""

    def __init__(self) -> None:
        self._bus: Bus | None = None
        self._soon: Callable[[Callable[[], None]], bool] | None = None
        self._wanted: dict[str, Account] | None = None
        self._told: dict[str, Account] = {}

    def start(self, bus: Bus, soon: Callable[[Callable[[], None]], bool]) -> None:
        """Begin."""
        self._bus, self._soon, self._told = bus, soon, {}
        bus.subscribe(ACCOUNT, self._on_account)
        bus.on_connected(self._on_connected)

    def on_principals(self, principals: Mapping[str, Principal]) -> None:
        """Tell those of whom something has changed; clear what is left of others."""
        people = (each for each in standing(principals.values()) if each.role in TOLD)
        self._wanted = {each.id: account(each) for each in people}
        for user in {*self._wanted, *self._told}:
            self._tell(user)

    def _on_connected(self) -> None:
        # A broker that was killed may have lost what it was told since it last saved.
        if self._soon is not None:
            self._soon(self._tell_anew)

    def _tell_anew(self) -> None:
        self._told.clear()
        for user in self._wanted or ():
            self._tell(user)

    def tick(self) -> None:
        """Nothing falls due: what ends changes who is known."""

    def stop(self) -> None:
        """End. What was told stays."""

    def _on_account(self, incoming: Incoming) -> None:
        user = incoming.ids["user"]
        # Of one that was removed while nobody was there to clear it.
        if incoming.payload and incoming.retained and self._soon is not None:
            self._soon(lambda: self._clear_unknown(user))

    def _clear_unknown(self, user: str) -> None:
        if self._bus is not None and self._wanted is not None and user not in self._wanted:
            self._bus.clear(ACCOUNT(user=user))

    def _tell(self, user: str) -> None:
        if self._bus is None or self._wanted is None:
            return
        wanted, told = self._wanted.get(user), self._told.get(user)
        if wanted is None:
            self._told.pop(user, None)
            self._bus.clear(ACCOUNT(user=user))
        elif wanted != told:
            self._told[user] = wanted
            self._bus.publish(ACCOUNT(user=user), wanted)
