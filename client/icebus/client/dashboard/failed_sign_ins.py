"""How often browsers at one address may fail to sign in. Pure: no clock and no socket.

The broker shuts out addresses that fail too often, and to it we are one address: without this, one
browser that tries passwords would shut all others out, or, on the broker's own machine, nobody.
"""

from __future__ import annotations

from collections import OrderedDict

AT_ONCE = 30.0
"""Failures that an address may have at once: a room of people who mistype, behind one proxy."""

PER_SECOND = 0.5
"""Failures a second that it may have for ever. The broker takes twenty times as many of one."""

CONNACK = 0x20
"""The first byte of the answer to a CONNECT."""

REMEMBERED = 1000
"""Addresses that are kept count of; the one seen longest ago is forgotten beyond."""


class FailedSignIns:
    """Counts failures of each address."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def may_try(self, address: str, now: float) -> bool:
        """Whether a browser of an address may try again now, in seconds on any clock."""
        return self._has(address, now) >= 1

    def count(self, address: str, now: float) -> None:
        """One has failed."""
        self._left[address] = (self._has(address, now) - 1, now)
        self._left.move_to_end(address)
        while len(self._left) > REMEMBERED:
            self._left.popitem(last=False)

    def _has(self, address: str, now: float) -> float:
        left, since = self._left.get(address, (AT_ONCE, now))
        return min(AT_ONCE, left + max(0.0, now - since) * PER_SECOND)


def is_refusal(answer: bytes) -> bool:
    """Whether a broker's first bytes refuse a CONNECT.

    Args:
        answer: a CONNACK has its type, its length, flags, and the reason, which is 0 where it does
            not refuse, in MQTT 5 as in MQTT 3.
    """
    if len(answer) < 2 or answer[0] != CONNACK:
        return False
    # A length has up to four bytes, and the last of them no highest bit.
    last = next((at for at, each in enumerate(answer[1:5], 1) if not each & 0x80), 4)
    return len(answer) > last + 2 and answer[last + 2] != 0
