"""Which clients are there, as far as attached reservations depend on them. In memory."""

from __future__ import annotations

import math

from icebus.schemas.components import ClientState, Presence
from icebus.schemas.liveness import SILENT_AFTER, is_gone, is_late


class Clients:
    """The clients that are online. The others are not remembered: there is no end to them.

    Moments here are of the monotonic clock.
    """

    def __init__(self) -> None:
        self._online: dict[tuple[str, str], ClientState] = {}
        self._patience: dict[tuple[str, str], float] = {}
        self._silent_at: dict[tuple[str, str], float] = {}

    def on_state(self, user: str, client: str, state: ClientState | None) -> Presence | None:
        """A client's state changed; returns how it is now, or None when that says nothing new.

        What is said of a run of the client that another has replaced (a late will, the farewell of
        a predecessor) does not count.
        """
        key = (user, client)
        known = self._online.get(key)
        if state is None:
            # Cleared: nobody says that it is there.
            return None if self._online.pop(key, None) is None else Presence.LOST
        if is_late(known, state):
            return None
        if is_gone(state):
            self._online.pop(key, None)
            return state.state
        self._online[key] = state
        return None if known is not None and known.session == state.session else state.state

    def on_sign(self, user: str, client: str, state: ClientState | None, at: float) -> None:
        """A client gave a sign, so it is not to be missed before long.

        The broker tells of clients that die, but not of one that died with it.
        """
        key = (user, client)
        if state is None or is_gone(state):
            return
        self._patience[key] = math.inf if state.interval is None else SILENT_AFTER * state.interval
        self._silent_at[key] = at + self._patience[key]

    def connected(self, at: float) -> None:
        """The broker is back: everybody has as long as ever to be heard."""
        self._silent_at = {key: at + patience for key, patience in self._patience.items()}

    def missed(self, at: float) -> list[tuple[str, str]]:
        """The clients that have been silent for too long; they count as lost from now on."""
        silent = [key for key in self._online if self._silent_at.get(key, math.inf) <= at]
        for key in silent:
            del self._online[key]
        gone = self._silent_at.keys() - self._online.keys()
        for key in gone:
            del self._silent_at[key], self._patience[key]
        return silent

    def online(self, user: str, client: str) -> bool:
        """Whether that client is there."""
        return (user, client) in self._online
