"""The firmware named ``default``: prints one line again and again, a sign of life."""

from __future__ import annotations

from typing import Final

from icebus.rack.firmware.base import NOTHING, Firmware, Step
from icebus.schemas.boards.pulse_count_text import DEFAULT_LINE

INTERVAL_SECONDS: Final = 0.25
"""Between lines. *Unverified*: that of the real firmware isn't known."""

_LINE: Final = Step((DEFAULT_LINE,))


class Default(Firmware):
    """Prints its line every ``interval`` seconds.

    Lines fall on whole multiples of the interval, so that many boards wake the rack once.
    """

    def __init__(self, interval: float = INTERVAL_SECONDS) -> None:
        self._interval = interval
        self._next = 0.0

    @property
    def deadline(self) -> float:
        """When the next line is due."""
        return self._next

    def start(self, now: float) -> Step:
        """Print the first line."""
        self._schedule(now)
        return _LINE

    def wake(self, now: float) -> Step:
        """Print a line if it is due."""
        if now < self._next:
            return NOTHING
        self._schedule(now)
        return _LINE

    def _schedule(self, now: float) -> None:
        self._next = (now // self._interval + 1) * self._interval
        if self._next <= now:  # rounding
            self._next += self._interval
