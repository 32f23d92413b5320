"""What disturbs measurements on a virtual board: its temperature, and windows that aren't exact.

All of it is made up, for trying out what one does about noise; nothing here was measured on boards.
Nothing disturbs anything unless it is asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

NEUTRAL_CELSIUS: Final = 25.0
"""At which circuits are as fast as the virtual FPGA says."""

COLDEST: Final = -100.0
HOTTEST: Final = 200.0
"""Degrees Celsius: as far as boards can be told to be, wider than any datasheet of a chip."""

MOST_SLOWDOWN: Final = 0.1
"""Part of its speed for a degree: circuits would stand still ten degrees above."""

DRIFT_PERIOD_SECONDS: Final = 600.0

LONGEST_DRIFT_PERIOD: Final = 31_536_000.0
"""A year, in seconds."""

MOST_JITTER: Final = 1.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class EnvironmentSettings:
    """How much measurements are disturbed.

    Attributes:
        jitter: seconds, the standard deviation of how long a window lasts.
        temperature: of the chips, in degrees Celsius, in the middle of what drift does.
        drift: degrees Celsius that the temperature rises and falls by.
        drift_period: seconds from one of its maxima to the next; each board's come at other times.
        slowdown: by what fraction a circuit whose speed depends on its gates' delays is slower for
            each degree above 25 degrees Celsius.
    """

    jitter: float = 0.0
    temperature: float = NEUTRAL_CELSIUS
    drift: float = 0.0
    drift_period: float = DRIFT_PERIOD_SECONDS
    slowdown: float = 0.0


class Environment:
    """What disturbs one board.

    Args:
        settings: how much.
        random: of the board; nothing is drawn from it for what is switched off.
    """

    def __init__(self, settings: EnvironmentSettings, random: Random) -> None:
        self._settings = settings
        self._random = random
        self._phase = random.random() * math.tau if settings.drift else 0.0

    def temperature(self, now: float) -> float:
        """Of the chip, in degrees Celsius."""
        settings = self._settings
        if not settings.drift:
            return settings.temperature
        swing = math.sin(math.tau * now / settings.drift_period + self._phase)
        return settings.temperature + settings.drift * swing

    def speed(self, now: float) -> float:
        """How fast gates are, compared with what the virtual FPGA takes them for."""
        warmer = self.temperature(now) - NEUTRAL_CELSIUS
        return max(0.0, 1.0 - self._settings.slowdown * warmer)

    def window(self, seconds: float) -> float:
        """How long a window lasts that shall last so long."""
        jitter = self._settings.jitter
        return max(0.0, self._random.gauss(seconds, jitter)) if jitter else seconds
