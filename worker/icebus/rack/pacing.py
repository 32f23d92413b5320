"""How fast USB carries bytes to a board: a pure token bucket that starts empty.

Bytes count as transferred at the end of the time they take, so the last byte of a transfer never
arrives early. Reading happens in portions, to sleep in between.
"""

from __future__ import annotations

import math
from typing import Final

UNPACED: Final = 1 << 30

_PORTION_SECONDS: Final = 0.008
"""A portion: long enough to be cheap, short against an upload (0.1 s at 1 MB/s)."""

_LATE_SECONDS: Final = 0.025
"""How late a portion may be and still be caught up on; a loaded machine wakes up late."""

_GAP_SECONDS: Final = 0.002
"""A silence longer than this is the host's, and time that the line stood idle is gone."""


class Pacer:
    """What may be read from one port by now.

    Args:
        bandwidth: bytes per second; 0 or ``None`` for no limit.
        now: the time to start at.
    """

    def __init__(self, bandwidth: float | None, now: float) -> None:
        self._bandwidth = bandwidth or 0.0
        self._spent_until = now
        self._moving = False
        self._empty_since: float | None = -math.inf

    def allowance(self, now: float, wanted: int) -> int:
        """Bytes that may be read now; 0 until a portion, or all that is ``wanted``, has come."""
        if not self._bandwidth:
            return min(wanted, UNPACED)
        if self._empty_since is not None:
            if now - self._empty_since > _GAP_SECONDS:
                self._spent_until = now
                self._moving = False
            self._empty_since = None
        self._spent_until = max(self._spent_until, now - _LATE_SECONDS)
        # A millionth of a byte of tolerance: a timer set for a portion must find that portion.
        arrived = int((now - self._spent_until) * self._bandwidth + 1e-6)
        return min(arrived, wanted) if arrived >= self._portion(wanted) else 0

    def next_time(self, wanted: int) -> float:
        """When :meth:`allowance` will next allow something."""
        return self._spent_until + self._portion(wanted) / self._bandwidth if self._bandwidth else 0

    def spent(self, count: int) -> None:
        """That many bytes were read."""
        self._moving = True
        if self._bandwidth:
            self._spent_until += count / self._bandwidth

    def empty(self, now: float) -> None:
        """There was nothing to read."""
        self._empty_since = now if self._moving else -math.inf

    def _portion(self, wanted: int) -> int:
        return min(wanted, max(1, int(self._bandwidth * _PORTION_SECONDS)))
