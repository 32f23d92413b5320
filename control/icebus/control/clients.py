"""Which clients are there, as far as attached reservations depend on them. In memory."""

from __future__ import annotations

from icebus.schemas.components import ClientState, Presence


class Clients:
    """The clients that are online. The others are not remembered: there is no end to them."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[str, str], str] = {}

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

    def online(self, user: str, client: str) -> bool:
        """Whether that client is there."""
        return (user, client) in self._sessions
