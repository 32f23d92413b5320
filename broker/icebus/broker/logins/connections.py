"""Whose connections there are, and which sessions were left behind: read from lines of the log.

Mosquitto bounds neither for one user. What it keeps for a session whose client has gone are 104
bytes for each message of each session, beside the messages: with 200 sessions one user filled a
broker of 1 GiB within 4 seconds, and nobody could log in any more (measured, Mosquitto 2.0.11).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection
from dataclasses import dataclass

from icebus.schemas.ids import BROKER

CONNECTIONS = 200
"""Of one user at a time, as many as states of clients are kept; the newest beyond are ended."""

LEFT_BEHIND = 50
"""Sessions of one user whose clients have gone; those that were left first are cleared beyond. The
broker keeps one for minutes where its client means to come back; what is cleared is asked again."""

TO_CLEAR = 10_000
"""Sessions that wait to be cleared; the oldest is given up beyond."""

Peer = tuple[str, int]
"""Address and port at the other end of a connection."""


@dataclass(frozen=True)
class _Connection:
    user: str
    peer: Peer


class Connections:
    """Follows logins and ends. The broker's own service is not counted."""

    def __init__(self) -> None:
        self._there: dict[str, _Connection] = {}
        self._of_user: dict[str, OrderedDict[str, None]] = {}
        self._left: OrderedDict[str, str] = OrderedDict()
        self._left_of_user: dict[str, OrderedDict[str, None]] = {}
        self._nameless: set[Peer] = set()
        self._keep_none: frozenset[str] = frozenset()
        self._to_clear: deque[tuple[str, str]] = deque(maxlen=TO_CLEAR)

    def logged_in(self, client: str, user: str, peer: Peer) -> None:
        """A connection has logged in.

        Args:
            client: its id; empty when that is too long to be known.
            user: whose; empty likewise.
            peer: where it comes from.
        """
        if not client:
            self._nameless.add(peer)
            return
        self._forget(client)
        if user != BROKER:
            self._there[client] = _Connection(user, peer)
            self._of_user.setdefault(user, OrderedDict())[client] = None

    def ended(self, client: str) -> None:
        """A connection has ended; its session may stay."""
        connection = self._there.get(client)
        if connection is None:
            return
        self._forget(client)
        self._left[client] = connection.user
        left = self._left_of_user.setdefault(connection.user, OrderedDict())
        left[client] = None
        while len(left) > (0 if connection.user in self._keep_none else LEFT_BEHIND):
            oldest, _ = left.popitem(last=False)
            del self._left[oldest]
            self._to_clear.append((oldest, connection.user))

    def keep_none_of(self, users: frozenset[str]) -> None:
        """Have no session of these be left from now on."""
        self._keep_none = users

    def all_ended(self) -> None:
        """Mosquitto has ended, and all connections with it; sessions may stay."""
        self._nameless.clear()
        for client, connection in list(self._there.items()):
            if connection.user in self._keep_none:
                self._forget(client)
            else:
                self.ended(client)

    def _forget(self, client: str) -> None:
        connection = self._there.pop(client, None)
        if connection is not None:
            clients = self._of_user[connection.user]
            del clients[client]
            if not clients:
                del self._of_user[connection.user]
        user = self._left.pop(client, None)
        if user is not None:
            del self._left_of_user[user][client]

    @property
    def too_many(self) -> bool:
        """Whether there are connections that must not be."""
        return bool(self._nameless) or any(
            len(clients) > CONNECTIONS for clients in self._of_user.values()
        )

    def beyond(self, there: Collection[Peer]) -> dict[Peer, str]:
        """The connections that must not be, and whose they are; empty for an id that is too long.

        Args:
            there: the connections that there are: lines about the end of others may be lost.
        """
        self._nameless.intersection_update(there)
        found = dict.fromkeys(self._nameless, "")
        for user, clients in list(self._of_user.items()):
            if len(clients) <= CONNECTIONS:
                continue
            for client in list(clients):
                if self._there[client].peer not in there:
                    self.ended(client)
            newest = list(clients)[CONNECTIONS:]
            found.update({self._there[client].peer: user for client in newest})
        return found

    def peers(self, users: Collection[str]) -> dict[Peer, str]:
        """The other ends of the connections of these, and whose each is."""
        return {
            self._there[client].peer: user
            for user in users
            for client in self._of_user.get(user, ())
        }

    def take_to_clear(self, most: int) -> list[tuple[str, str]]:
        """Sessions to clear, and whose they are: at most so many, and each once."""
        taken: list[tuple[str, str]] = []
        while self._to_clear and len(taken) < most:
            client, user = self._to_clear.popleft()
            if client not in self._there:  # it has come back
                taken.append((client, user))
        return taken
