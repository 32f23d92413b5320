"""How much of the worker's time each user has: by what their calls really take.

What a call costs can't be told from how large it is: a kilobyte may unpack to a megabyte on each of
ten boards. So the time that is spent for somebody is measured, and who has had more than a share
waits until that is made good. Whoever shares no board's worker with others may have nearly all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

ALONE = 0.7
"""Seconds a second for a user who holds all devices that are held here."""

LEAST = 0.03
"""Seconds a second for everybody else, also for who holds nothing and is only told so."""

FOR_DEVICE = 0.02
"""Seconds a second more for each device: some forty evaluations, each of which takes half a
millisecond; a board with a window of a second makes one."""

MOST = 0.4
"""Seconds a second for one of several users, shared by the devices that they hold."""

AT_ONCE = 0.2
"""Seconds after a pause: to begin on thirty boards takes that."""

TELL_EVERY = 0.1
"""Seconds between two refusals that a user is told of. Who is not told asks again by himself."""

REMEMBERED = 1000
"""Users whose account is kept; one that is forgotten begins anew."""


class Work:
    """An account of time for each user. Any thread may use it.

    Args:
        held: how many devices a user holds here.
        held_by_all: how many are held here.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        held: Callable[[str], int],
        held_by_all: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._held = held
        self._held_by_all = held_by_all
        self._clock = clock
        self._lock = threading.Lock()
        self._left: dict[str, tuple[float, float]] = {}
        self._told: dict[str, float] = {}

    def charge(self, user: str, seconds: float) -> None:
        """So much was, or will be, spent for that user; less than nothing gives some back."""
        rate, now = self._rate(user), self._clock()
        with self._lock:
            left = self._left_at(user, rate, now)
            if user not in self._left and len(self._left) >= REMEMBERED:
                self._left.pop(next(iter(self._left)))
            self._left[user] = (min(AT_ONCE, left - seconds), now)

    def pause(self, user: str) -> float:
        """Seconds until something may be done for that user again; 0 for now."""
        rate, now = self._rate(user), self._clock()
        with self._lock:
            left = self._left_at(user, rate, now)
        return max(0.0, -left / rate)

    def may_tell(self, user: str) -> bool:
        """Whether a user is told now that nothing is done: a few times a second."""
        now = self._clock()
        with self._lock:
            if now - self._told.get(user, -TELL_EVERY) < TELL_EVERY:
                return False
            if len(self._told) >= REMEMBERED:
                self._told.clear()
            self._told[user] = now
        return True

    def _left_at(self, user: str, rate: float, now: float) -> float:
        left, at = self._left.get(user, (AT_ONCE, now))
        return min(AT_ONCE, left + rate * (now - at))

    def _rate(self, user: str) -> float:
        held, held_by_all = self._held(user), self._held_by_all()
        if held and held >= held_by_all:
            return ALONE
        share = MOST * held / max(1, held_by_all)
        return max(LEAST, min(LEAST + FOR_DEVICE * held, share))
