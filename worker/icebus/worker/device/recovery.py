"""Recovery: what to do with a board that fails, and how to describe it. Pure.

::

    reopen -> reboot -> reflash -> rest -> (reboot -> rest) ... -> (reboot -> set aside) ...

Each step is harder on the board than the one before, so each is given its chance first. Flash
wears: it is written once in a row of failures, while a reboot costs nothing and is tried after each
rest. Rests grow, and a board that fails after all of them is set aside: it is looked at
seldom, until somebody does something about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Remedy(Enum):
    """What may be done about a failure."""

    REOPEN = "reopening its port"
    REBOOT = "rebooting"
    REFLASH = "reflashing"
    REST = "resting"
    SET_ASIDE = "set aside"


REST_FIRST = 30.0
REST_LONGEST = 600.0
"""Seconds a broken device is left alone before the next try, doubled each time: what a reflash did
not mend needs a hand more often than another try."""

RESTS = 5
"""Rests before a device is set aside: about 15 minutes of trying, a hub's power cycle included."""

SET_ASIDE = 3600.0
"""Seconds between looks at a device that was set aside: it may have been mended in silence."""

_FIRST_REST = 4
"""The failure that the first rest follows."""


@dataclass(frozen=True)
class RecoveryStep:
    """What is done about one failure.

    Attributes:
        remedy: what is done.
        pause: seconds until the device is looked at again; 0 for a step that is taken now.
    """

    remedy: Remedy
    pause: float = 0.0

    def described(self, reason: str, tries: int) -> str:
        """The step with its reason: ``silent for 10 s; rebooting (2nd try)``."""
        if not self.pause:
            return f"{reason}; {self.remedy.value} ({ordinal(tries)} try)"
        return f"{reason}; {self.remedy.value} for {self.pause:.0f} s ({ordinal(tries)} failure)"


def step_after(failures: int) -> RecoveryStep:
    """What to do after that many failures in a row."""
    if failures < _FIRST_REST:
        return RecoveryStep((Remedy.REOPEN, Remedy.REBOOT, Remedy.REFLASH)[max(1, failures) - 1])
    rests, resting = divmod(failures - _FIRST_REST, 2)
    if resting:
        return RecoveryStep(Remedy.REBOOT)
    if rests >= RESTS:
        return RecoveryStep(Remedy.SET_ASIDE, SET_ASIDE)
    return RecoveryStep(Remedy.REST, min(REST_LONGEST, REST_FIRST * 2.0**rests))


class Recovery:
    """How far the recovery of one device has come."""

    def __init__(self) -> None:
        self._failures = 0  # with those that steps stand for which can't help and are passed over
        self._tries = 0

    @property
    def has_failed(self) -> bool:
        """Whether it has failed since nothing was wrong."""
        return self._failures > 0

    def fail(self, reason: str) -> tuple[RecoveryStep, str]:
        """It has failed: the step to take, with its description."""
        self._failures += 1
        self._tries += 1
        step = step_after(self._failures)
        return step, step.described(reason, self._tries)

    def skip_to(self, remedy: Remedy) -> None:
        """Have the next failure answered by no less than ``remedy``."""
        self._failures = max(self._failures, failures_of(remedy) - 1)

    def reset(self) -> None:
        """Nothing is wrong, or an administrator has acted: what comes next is a first failure."""
        self._failures = self._tries = 0


def failures_of(remedy: Remedy) -> int:
    """The first failure that ``remedy`` answers."""
    return next(number for number in range(1, 1000) if step_after(number).remedy is remedy)


def ordinal(number: int) -> str:
    """``1st``, ``2nd``, ``3rd``, ``4th``."""
    teen = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
