"""Who fails to log in: said in our log, and shut out when it becomes too much."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection

from icebus.broker.logins.allowances import AT_ONCE, SHUT_OUT, Allowances, Network, network_of
from icebus.broker.logins.connections import CONNECTIONS, Connections, Peer
from icebus.broker.logins.lines import Detail, Ended, Failed, Full, Line, LoggedIn, Opened, Reason
from icebus.broker.logins.sockets import end_connections, peers, received, shut_out
from icebus.schemas.ids import user_of

log = logging.getLogger(__name__)

ENDING_INTERVAL = 1.0
"""Seconds between looks at connections that must not be, each of which asks for all there are."""

NAMED = 50
"""Addresses whose failures are said apart; those of more are counted together, or a flood from many
addresses would be one of lines."""

NAMED_FOR = 600.0
"""Seconds for which an address stays one of those."""


class LoginWatch:
    """Learns of connections from lines of Mosquitto's log.

    Lines are given to it on one thread; what it knows may be asked on any.
    """

    def __init__(self) -> None:
        self._allowances = Allowances()
        self._connections = Connections()
        self._lock = threading.Lock()
        self._applying = threading.Lock()
        self._named: OrderedDict[str, float] = OrderedDict()
        self._pid = 0
        self._applied: frozenset[Network] = frozenset()
        self._complained = False
        self._left = False
        self._ended_at = 0.0

    def started(self, pid: int) -> None:
        """Mosquitto listens as this process, and is to know who is shut out."""
        with self._applying:
            self._pid = pid
            self._applied = frozenset()
        self._apply(time.monotonic())

    def ended(self) -> None:
        """Mosquitto has ended; its number may be another process's from now on."""
        with self._applying, self._lock:
            self._pid = 0
            self._connections.all_ended()

    def take(self, line: Line, now: float) -> None:
        """Learn from a line.

        Args:
            line: as read.
            now: monotonic seconds.
        """
        shut = False
        address = ""
        if self._left and line == Failed(Reason.NO_TLS):
            line = Failed(Reason.LEFT)
        self._left = isinstance(line, Detail) and line.left
        with self._lock:
            match line:
                case Opened(address, port):
                    shut = self._allowances.opened(address, port, now)
                case LoggedIn(address, port, client, user):
                    self._allowances.logged_in(address, port, now)
                    self._connections.logged_in(client, user_of(user), (address, port))
                case Ended(client):
                    self._connections.ended(client)
                case Failed(reason, address):
                    shut = bool(address) and self._allowances.denied(address, now)
                    address = self._allowances.failed(reason, address, now)
                case Full(address):
                    shut = self._allowances.denied(address, now)
                case _:
                    pass
        if isinstance(line, Failed):
            self._say(line.reason, address, now)
        elif isinstance(line, Full):
            log.warning(
                "a listener has all the connections that it takes; %s got none", line.address
            )
        if shut:
            applied = self._apply(now)
            log.warning(
                "%s has had more than %.0f connections that came to nothing%s",
                network_of(address),
                AT_ONCE,
                f"; it is shut out for {SHUT_OUT:.0f} s, and its connections that have logged in "
                "go on"
                if applied
                else "; have a firewall shut it out",
                extra={"subject": self._subject(address, now)},
            )

    def tick(self, now: float) -> None:
        """Let in again whose time has passed, and end connections that must not be.

        To be called about every second.
        """
        self._apply(now)
        with self._lock:
            silent = self._allowances.silent(now)
            due = bool(silent) or self._connections.too_many
        if due and now - self._ended_at >= ENDING_INTERVAL:
            self._ended_at = now
            with self._applying:
                self._allowed(lambda pid: self._end(pid, silent))

    def keep_none_of(self, users: frozenset[str]) -> None:
        """Have sessions of these be cleared as soon as their connections end."""
        with self._lock:
            self._connections.keep_none_of(users)

    def take_to_clear(self, most: int) -> list[tuple[str, str]]:
        """Sessions that were left behind, too many for their users: ids, and whose they are."""
        with self._lock:
            return self._connections.take_to_clear(most)

    def shut_out(self, now: float) -> frozenset[Network]:
        """Who is shut out."""
        with self._lock:
            return self._allowances.shut_out(now)

    def end_connections_of(self, user: str) -> int | None:
        """End all connections of somebody that are known; returns how many, None if it can't be."""
        with self._lock:
            of_user = self._connections.peers([user])
        ended: list[int] = []
        with self._applying:
            if not self._allowed(lambda pid: ended.append(end_connections(pid, of_user))):
                return None
        return ended[0]

    def received(self, users: Collection[str]) -> dict[str, int]:
        """How many bytes the present connections of these have brought; nothing if unknown."""
        with self._lock:
            whose = self._connections.peers(users)
        counted: dict[Peer, int] = {}
        with self._applying:
            self._allowed(lambda pid: counted.update(received(pid)))
        sums: Counter[str] = Counter()
        for peer, user in whose.items():
            sums[user] += counted.get(peer, 0)
        return dict(sums)

    def _end(self, pid: int, silent: list[Peer]) -> None:
        there = peers(pid)
        with self._lock:
            beyond = self._connections.beyond(there)
        if beyond or not there.isdisjoint(silent):
            end_connections(pid, {*beyond, *silent})
        with self._lock:
            for each in silent:
                self._allowances.gone(each)
        for user in set(beyond.values()) - {""}:
            log.warning(
                "%s has more than %d connections: those beyond were ended; end some, or see which "
                "program opens them",
                user,
                CONNECTIONS,
                extra={"subject": user},
            )
        for (address, _port), user in beyond.items():
            if not user:
                log.warning(
                    "a connection from %s was ended: its client id is longer than 900 bytes",
                    address,
                    extra={"subject": self._subject(address, self._ended_at)},
                )

    def failures(self, now: float, within: float) -> dict[Network, tuple[int, float]]:
        """How many failures there were, and how many seconds ago the last one, by address."""
        with self._lock:
            return self._allowances.failures(now, within)

    def _say(self, reason: Reason, address: str, now: float) -> None:
        # Whoever looks whether we are there goes without a word, too.
        level = logging.DEBUG if reason is Reason.LEFT else logging.WARNING
        log.log(
            level,
            "a login from %s failed: %s",
            address or "an address that is not known",
            reason.value,
            extra={"subject": self._subject(address, now)},
        )

    def _subject(self, address: str, now: float) -> str:
        network = str(network_of(address))
        if network not in self._named:
            if len(self._named) >= NAMED:
                oldest, since = next(iter(self._named.items()))
                if now - since < NAMED_FOR:
                    return "others"
                del self._named[oldest]
            self._named[network] = now
        return network

    def _apply(self, now: float) -> bool:
        """Have the kernel know who is shut out; returns whether it does."""
        with self._lock:
            wanted = self._allowances.shut_out(now)
        with self._applying:
            if wanted == self._applied or not self._pid:
                return wanted == self._applied and not self._complained
            self._applied = wanted
            return self._allowed(lambda pid: shut_out(pid, wanted))

    def _allowed(self, act: Callable[[int], object]) -> bool:
        """Do something to the sockets of Mosquitto, if it runs and the system lets us."""
        if not self._pid:
            return False
        try:
            act(self._pid)
        except ProcessLookupError:
            return False  # it has ended, and all connections with it
        except (OSError, AttributeError, ValueError) as error:
            self._complain(error)
            return False
        return True

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            log.warning(
                "nobody can be shut out here, however many logins fail or connections somebody has "
                "(%s); have a firewall count connections, as docs/deploy.md says",
                error,
            )
