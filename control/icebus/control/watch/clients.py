"""Which clients are there, as far as attached reservations depend on them. In memory."""

from __future__ import annotations

import math

from icebus.bus import MISSED
from icebus.schemas.components import ClientState, Presence


class Clients:
    """The clients that are online. The others are not remembered: there is no end to them.

    Moments here are of the monotonic clock.
    """

    def __init__(self) -> None:
        self._sessions: dict[tuple[str, str], str] = {}
        self._patience: dict[tuple[str, str], float] = {}
        self._silent_at: dict[tuple[str, str], float] = {}

    def on_state(self, user: str, client: str, state: ClientState | None) -> Presence | None:
        """A client's state changed; returns how it is now, or None when that says nothing new.

        What is said of a run of the client that another has replaced (a late will, the farewell of
        a predecessor) does not count.
        """
        key = (user, client)
        known = self._sessions.get(key)
        if state is None:
            # Cleared: nobody says that it is there.
            return None if self._sessions.pop(key, None) is None else Presence.LOST
        if state.state is Presence.ONLINE:
            self._sessions[key] = state.session
            return None if known == state.session else Presence.ONLINE
        if known not in (None, state.session):
            return None
        self._sessions.pop(key, None)
        return state.state

    def on_sign(self, user: str, client: str, state: ClientState | None, at: float) -> None:
        """A client gave a sign, so it is not to be missed before long.

        The broker tells of clients that die, but not of one that died with it.
        """
        key = (user, client)
        if state is None or state.state is not Presence.ONLINE:
            return
        self._patience[key] = math.inf if state.interval is None else MISSED * state.interval
        self._silent_at[key] = at + self._patience[key]

    def connected(self, at: float) -> None:
        """The broker is back: everybody has as long as ever to be heard."""
        self._silent_at = {key: at + patience for key, patience in self._patience.items()}

    def missed(self, at: float) -> list[tuple[str, str]]:
        """The clients that have been silent for too long; they count as lost from now on."""
        silent = [key for key in self._sessions if self._silent_at.get(key, math.inf) <= at]
        for key in silent:
            del self._sessions[key]
        gone = self._silent_at.keys() - self._sessions.keys()
        for key in gone:
            del self._silent_at[key], self._patience[key]
        return silent

    def online(self, user: str, client: str) -> bool:
        """Whether that client is there."""
        return (user, client) in self._sessions
