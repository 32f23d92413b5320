"""How much more each principal may have kept than the contract lets them. Pure: no clock, no I/O.

Whoever is in their right leaves nothing where nothing may be kept, and whoever makes a mistake a
few; who floods has left thousands before anybody can look.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

AT_ONCE = 2000.0
"""Retained messages beyond what may stay that somebody may leave at once."""

PER_SECOND = 100.0
"""Such messages a second that somebody may leave for ever. They are cleared within seconds, which
takes a hundredth of a core; a user with more clients than may be has some 50 of their states
cleared."""

COUNTS_AS_MANY = 64 << 10
"""Bytes of a message that counts as one: a larger one counts as several, 128 MB at once as all."""

BARRED = 60.0
"""Seconds for which whoever has left more may publish nothing, at first."""

LONGER = 4.0
"""Times as long it is each time that it happens again."""

LONGEST = 3600.0
"""Seconds for which somebody is barred at most, and after which an earlier time is forgotten."""


@dataclass
class _Account:
    left: float = AT_ONCE
    since: float = 0.0
    barred: float = 0.0
    until: float = 0.0
    counts: bool = True


class Excess:
    """Counts what each has left too much of, and says for how long that bars them.

    What somebody has left is found again and again until it is cleared. So nothing of theirs counts
    from when they are barred until a whole look has found nothing, or the bar is over.
    """

    def __init__(self) -> None:
        self._accounts: defaultdict[str, _Account] = defaultdict(_Account)

    def found(self, who: str, size: int, now: float) -> bool:
        """Take one more message of theirs into account; returns whether it is too much.

        Args:
            who: has left it.
            size: of its payload, in bytes.
            now: monotonic seconds.
        """
        account = self._accounts[who]
        if self.is_barred(who, now):
            return False
        gained = (now - account.since) * PER_SECOND
        account.left = min(AT_ONCE, account.left + gained) - max(1.0, size / COUNTS_AS_MANY)
        account.since = now
        return account.left <= 0

    def is_barred(self, who: str, now: float) -> bool:
        """Whether what is found of theirs was left before they were barred, if it is theirs."""
        account = self._accounts[who]
        return not account.counts and now < account.until

    def bar(self, who: str, now: float) -> float:
        """Bar them from now on; returns for how many seconds."""
        account = self._accounts[who]
        again = account.barred > 0 and now - account.until < LONGEST
        account.barred = min(LONGEST, account.barred * LONGER) if again else BARRED
        account.until = now + account.barred
        account.counts = False
        account.left, account.since = AT_ONCE, now
        return account.barred

    def pause(self, who: str, seconds: float, now: float) -> None:
        """Count nothing of theirs for a while, and begin anew then; it is no bar."""
        self._accounts[who] = _Account(until=now + seconds, counts=False, since=now)

    def looked(self, found: frozenset[str]) -> None:
        """A whole look has found something of these, and nothing of any other."""
        for who, account in self._accounts.items():
            if who not in found:
                account.counts = True
