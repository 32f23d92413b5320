"""How often an address may fail to log in, and who is shut out. Pure: no clock and no socket."""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from icebus.broker.logins.lines import Reason

AT_ONCE = 300.0
"""Failures that an address may have at once, before it is shut out."""

PER_SECOND = 10.0
"""Failures a second that an address may have for ever: what ten clients do that try again every
second with a password that has changed, and a hundredth of a core for Mosquitto."""

SHUT_OUT = 60.0
"""Seconds for which an address is shut out. Afterwards it may fail :data:`AT_ONCE` times again."""

COST_OF_LOGIN = 0.1
"""What a login that succeeds costs of the allowance: a hundred a second are not too many, for a
cluster behind one address comes back at once after a restart of the broker."""

FORGIVEN = (ipaddress.ip_network("127.0.0.1"), ipaddress.ip_network("::/64"))
"""Never shut out: all programs of this machine come from there, our own too."""

REMEMBERED = 10_000
"""Addresses that are kept count of; the one that was seen longest ago is forgotten beyond."""

MOST_SHUT_OUT = 100
"""Addresses that are shut out at a time, so that the kernel's filter stays short."""

LOGIN_TIME = 5.0
"""Seconds in which an honest client says who it is."""

SILENT_TIME = 100.0
"""Seconds after which Mosquitto has ended a connection that never said who it is: it takes 90."""

WAITING = 8192
"""Connections that have yet to log in, at most: as many as Mosquitto may have."""

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
        left: failures that it may have now.
        since: when that was so.
    """

    left: float
    since: float
    failures: Counter[Reason] = field(default_factory=Counter)
    last: float = 0.0


class Allowances:
    """Counts failures for each address and says who is shut out.

    A line that tells of a failure often does not say where it came from. Then it is one of those
    connections that have yet to log in, and counted for the address that has most of them: an
    attacker who tries from one place while he keeps connections open from another is charged
    wherever he has more.
    """

    def __init__(self) -> None:
        self._allowances: OrderedDict[Network, _Allowance] = OrderedDict()
        self._waiting: OrderedDict[tuple[str, int], float] = OrderedDict()
        self._counted: Counter[str] = Counter()
        self._silent: OrderedDict[tuple[str, int], float] = OrderedDict()
        self._shut_out: dict[Network, float] = {}

    # --- connections --------------------------------------------------------------------------

    def opened(self, address: str, port: int, now: float) -> None:
        """A connection is there that has yet to log in."""
        self._forget((address, port))
        self._waiting[address, port] = now
        self._counted[address] += 1
        self._age(now)

    def logged_in(self, address: str, port: int, now: float) -> bool:
        """It has logged in; returns whether its address is shut out because of it."""
        self._forget((address, port))
        network = network_of(address)
        return network is not None and self._charge(network, COST_OF_LOGIN, now)

    def failed(self, reason: Reason, address: str, now: float) -> tuple[str, bool]:
        """A connection ended without a login.

        Args:
            reason: why.
            address: where it came from; empty where the log does not say.
            now: monotonic seconds.

        Returns:
            The address that it is counted for, or nothing, and whether that is now shut out.
        """
        address = address or self._likely_origin(now)
        network = network_of(address)
        if network is None:
            return "", False
        shut = self._charge(network, 1.0, now)
        allowance = self._allowances[network]
        allowance.failures[reason] += 1
        allowance.last = now
        return address, shut

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

    def _charge(self, network: Network, cost: float, now: float) -> bool:
        allowance = self._allowances.get(network)
        if allowance is None:
            allowance = self._allowances[network] = _Allowance(AT_ONCE, now)
        self._allowances.move_to_end(network)
        while len(self._allowances) > REMEMBERED:
            self._allowances.popitem(last=False)
        gained = (now - allowance.since) * PER_SECOND
        allowance.left = min(AT_ONCE, allowance.left + gained) - cost
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

        Args:
            now: monotonic seconds.
            within: seconds since the last one.
        """
        return {
            network: (each.failures.total(), now - each.last)
            for network, each in self._allowances.items()
            if each.failures and now - each.last <= within
        }
