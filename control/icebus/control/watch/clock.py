"""The time of day, which somebody may set while reservations last."""

from __future__ import annotations

import time

TOLERANCE = 2.0
"""Seconds that the time of day may stray unnoticed: what keeps clocks right does so all the time,
and no reservation is the worse for it."""


class Clock:
    """Notices that the clock was set: the time of day has gone another way than the time passed."""

    def __init__(self) -> None:
        self._between = self._measure()

    def moved(self) -> float:
        """Seconds by which it was set forth, or back where negative, since this was last asked."""
        between = self._measure()
        by = between - self._between
        if abs(by) < TOLERANCE:
            return 0.0
        self._between = between
        return by

    @staticmethod
    def _measure() -> float:
        return time.time() - time.monotonic()
