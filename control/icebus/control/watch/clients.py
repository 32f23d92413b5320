"""Which clients are there, as far as attached reservations depend on them. In memory."""

from __future__ import annotations

import math

from icebus.schemas.components import ClientState, Presence
from icebus.schemas.liveness import SILENT_AFTER, is_gone, is_late

MOST = 256
"""Clients of one user that are minded at once. More than that no program of theirs means."""


class Clients:
    """The clients that are online. The others are not remembered: there is no end to them.

    Moments here are of the monotonic clock.
    """

    def __init__(self) -> None:
        self._online: dict[tuple[str, str], ClientState] = {}
        self._longest_silence: dict[tuple[str, str], float] = {}
        self._silent_at: dict[tuple[str, str], float] = {}

    def on_state(
        self, user: str, client: str, state: ClientState | None, at: float
    ) -> Presence | None:
        """A client's state was said; returns how it is now, or None when that is nothing new.

        The broker tells of clients that die, but not of one that died with it; so those that
        repeat their state are expected to go on doing so.
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
        if known is None and sum(each == user for each, _ in self._online) >= MOST:
            return None
        self._online[key] = state
        silence = math.inf if state.interval is None else SILENT_AFTER * state.interval
        self._longest_silence[key] = silence
        self._silent_at[key] = at + silence
        return None if known is not None and known.session == state.session else state.state

    def connected(self, at: float) -> None:
        """The broker is back: everybody has as long as ever to be heard."""
        self._silent_at = {key: at + silence for key, silence in self._longest_silence.items()}

    def drop_silent(self, at: float) -> list[tuple[str, str]]:
        """Count those as lost that have been silent for too long, and return them."""
        silent = [key for key in self._online if self._silent_at.get(key, math.inf) <= at]
        for key in silent:
            del self._online[key]
        gone = self._silent_at.keys() - self._online.keys()
        for key in gone:
            del self._silent_at[key], self._longest_silence[key]
        return silent

    def online(self, user: str, client: str) -> bool:
        """Whether that client is there."""
        return (user, client) in self._online
