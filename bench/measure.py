"""What was measured, beside what it should be and what the incumbent needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One number.

    Attributes:
        what: was measured.
        value: it came to.
        unit: of the value and the target.
        target: it should come to; None where there is nothing to hold.
        least: whether the target is a lower bound instead of an upper one.
        incumbent: what iCEFARM needs for it, run on a machine of this kind.
    """

    what: str
    value: float
    unit: str
    target: float | None = None
    least: bool = False
    incumbent: str = ""

    @property
    def held(self) -> bool | None:
        """Whether the target is reached."""
        if self.target is None:
            return None
        return self.value >= self.target if self.least else self.value <= self.target


def quantile(values: Sequence[float], fraction: float) -> float:
    """The value that so large a part of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return quantile(values, 0.5)
