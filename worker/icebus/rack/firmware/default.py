"""The firmware named ``default``: prints one line again and again, a sign of life."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from icebus.rack.firmware.base import ANY_BOARD, NOTHING, Firmware, RunsOn, Step, said
from icebus.rack.firmware.settings import FirmwareSettings
from icebus.schemas.boards.pulse_count_text import DEFAULT_LINE

if TYPE_CHECKING:
    from random import Random

_LINE: Final = Step(said(DEFAULT_LINE))


class Default(Firmware):
    """Prints its line once an interval.

    Lines fall on whole multiples of the interval, so that many boards wake the rack once.
    """

    def __init__(
        self, settings: FirmwareSettings, random: Random, runs_on: RunsOn = ANY_BOARD
    ) -> None:
        super().__init__(settings, random, runs_on)
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
        interval = self.settings.interval
        self._next = (now // interval + 1) * interval
        if self._next <= now:  # rounding
            self._next += interval
