"""How often an address may fail to log in, and who is shut out. Pure: no clock and no socket."""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from itertools import takewhile

from icebus.broker.logins.lines import Reason

AT_ONCE = 1000.0
"""Connections that come to nothing, or have yet to log in, that an address may have at once before
it is shut out: one second of Mosquitto's time. A cluster behind one address comes back at once
after a restart of the broker, too."""

PER_SECOND = 10.0
"""Such connections a second that an address may have for ever: what ten clients do that try again
every second with a password that has changed, and a hundredth of a core for Mosquitto."""

SHUT_OUT = 60.0
"""Seconds for which an address is shut out. Afterwards it has :data:`AT_ONCE` again."""

COST_OF_LOGIN = 0.2
"""What a connection that logs in costs of the allowance."""

FORGIVEN = (ipaddress.ip_network("127.0.0.1"), ipaddress.ip_network("::/64"))
"""Never shut out: all programs of this machine come from there, our own too."""

REMEMBERED = 10_000
"""Addresses that are kept count of; the one that was seen longest ago is forgotten beyond."""

MOST_SHUT_OUT = 100
"""Addresses that are shut out at a time, so that the kernel's filter stays short."""

LOGIN_TIME = 10.0
"""Seconds in which an honest client says who it is; Mosquitto would wait for 90."""

SILENT_TIME = 100.0
"""Seconds after which Mosquitto itself has ended a connection that never said who it is."""

WAITING = 8192
"""Connections that have yet to log in, at most: as many as Mosquitto may have."""

UNNAMED = 20_000
"""Connections that have not logged in and may have ended since, at most."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def network_of(address: str) -> Network | None:
    """An address by itself, or with the /64 that anybody with IPv6 has; None for no address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return ipaddress.IPv4Network(found.ipv4_mapped)
        return ipaddress.IPv6Network((found, 64), strict=False)
    return ipaddress.IPv4Network(found)


@dataclass
class _Allowance:
    """What one address has left.

    Attributes:
        left: connections that it may have now.
        since: when that was so.
    """

    left: float
    since: float
    failures: Counter[Reason] = field(default_factory=Counter)
    last: float = 0.0


class Allowances:
    """Counts connections for each address and says who is shut out.

    Each connection is charged for when it is opened, where its address is known for sure, and most
    of that is given back when it logs in. A line that tells of a failure often does not say where
    it came from; whom such a line is ascribed to, for people, is the address that has most
    connections that have yet to log in.
    """

    def __init__(self) -> None:
        self._allowances: OrderedDict[Network, _Allowance] = OrderedDict()
        self._waiting: OrderedDict[tuple[str, int], float] = OrderedDict()
        self._unnamed: OrderedDict[tuple[str, int], float] = OrderedDict()
        self._counted: Counter[str] = Counter()
        self._silent: OrderedDict[tuple[str, int], float] = OrderedDict()
        self._shut_out: dict[Network, float] = {}

    # --- connections --------------------------------------------------------------------------

    def opened(self, address: str, port: int, now: float) -> bool:
        """A connection is there that has yet to log in; returns whether its address is shut out."""
        self._unnamed.pop((address, port), None)
        self._unnamed[address, port] = now
        while len(self._unnamed) > UNNAMED:
            self._unnamed.popitem(last=False)
        self._forget((address, port))
        self._waiting[address, port] = now
        self._counted[address] += 1
        self._age(now)
        return self._charge(address, 1.0, now)

    def logged_in(self, address: str, port: int, now: float) -> None:
        """It has logged in."""
        self._unnamed.pop((address, port), None)
        self._forget((address, port))
        self._charge(address, COST_OF_LOGIN - 1.0, now)

    def denied(self, address: str, now: float) -> bool:
        """A connection was over before it counted as opened; returns whether that shuts it out."""
        return self._charge(address, 1.0, now)

    def failed(self, reason: Reason, address: str, now: float) -> str:
        """A connection ended without a login.

        Args:
            reason: why.
            address: where it came from; empty where the log does not say.
            now: monotonic seconds.

        Returns:
            The address that it is ascribed to, or nothing.
        """
        address = address or self._likely_origin(now)
        network = network_of(address)
        if network is None:
            return ""
        allowance = self._allowance(network, now)
        if reason is not Reason.LEFT:
            allowance.failures[reason] += 1
            allowance.last = now
        return address

    def silent(self, now: float) -> list[tuple[str, int]]:
        """Those that have not said for :data:`LOGIN_TIME` who they are; they may have ended."""
        return list(takewhile(lambda each: now - self._unnamed[each] > LOGIN_TIME, self._unnamed))

    def gone(self, connection: tuple[str, int]) -> None:
        """A connection was ended, or is not there any more."""
        self._unnamed.pop(connection, None)

    def _likely_origin(self, now: float) -> str:
        self._age(now)
        waiting = self._waiting or self._silent
        if not waiting:
            return ""
        counted = self._counted if waiting is self._waiting else Counter(a for a, _ in waiting)
        most = max(counted.values())
        # Of those that have most, the one that came last: logins follow connections at once.
        found = next(each for each in reversed(waiting) if counted[each[0]] == most)
        self._forget(found)
        return found[0]

    def _age(self, now: float) -> None:
        """Put aside those that have been silent for longer than a login takes."""
        while self._waiting:
            connection, since = next(iter(self._waiting.items()))
            if now - since < LOGIN_TIME and len(self._waiting) <= WAITING:
                break
            self._forget(connection)
            self._silent[connection] = since
        while self._silent:
            connection, since = next(iter(self._silent.items()))
            if now - since < SILENT_TIME and len(self._silent) <= WAITING:
                break
            del self._silent[connection]

    def _forget(self, connection: tuple[str, int]) -> None:
        self._silent.pop(connection, None)
        if self._waiting.pop(connection, None) is not None:
            self._counted[connection[0]] -= 1
            if self._counted[connection[0]] <= 0:
                del self._counted[connection[0]]

    def _allowance(self, network: Network, now: float) -> _Allowance:
        allowance = self._allowances.get(network)
        if allowance is None:
            allowance = self._allowances[network] = _Allowance(AT_ONCE, now)
        self._allowances.move_to_end(network)
        while len(self._allowances) > REMEMBERED:
            self._allowances.popitem(last=False)
        return allowance

    def _charge(self, address: str, cost: float, now: float) -> bool:
        network = network_of(address)
        if network is None:
            return False
        allowance = self._allowance(network, now)
        gained = (now - allowance.since) * PER_SECOND
        allowance.left = min(AT_ONCE, allowance.left + gained - cost)
        allowance.since = now
        if allowance.left > 0 or network in FORGIVEN or network in self._shut_out:
            return False
        while len(self._shut_out) >= MOST_SHUT_OUT:
            del self._shut_out[next(iter(self._shut_out))]
        self._shut_out[network] = now + SHUT_OUT
        allowance.left = AT_ONCE
        return True

    # --- who is shut out ----------------------------------------------------------------------

    def shut_out(self, now: float) -> frozenset[Network]:
        """Who is shut out now."""
        for network, until in list(self._shut_out.items()):
            if until <= now:
                del self._shut_out[network]
        return frozenset(self._shut_out)

    def failures(self, now: float, within: float) -> dict[Network, tuple[int, float]]:
        """How many failures there were, and how many seconds ago the last one, for each address.

        Who just went is not counted: whoever looks whether we are there does.

        Args:
            now: monotonic seconds.
            within: seconds since the last one.
        """
        return {
            network: (each.failures.total(), now - each.last)
            for network, each in self._allowances.items()
            if each.failures and now - each.last <= within
        }
