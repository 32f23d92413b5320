"""What the converter of a virtual board samples: synthetic, as nothing here simulates voltages.

It stands for a resistor and a capacitor at a pin of the FPGA: the pin is taken for a square wave of
as many rises a second as the virtual FPGA counts, high half of the time, from ground to the
converter's reference. What the capacitor has of it is sampled, with noise. So a pin that stands
still gives noise around 0, a slow one the full swing, a fast one a ripple around half of it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

TIME_CONSTANT: Final = 50e-6
"""Seconds of resistor times capacitor: circuits of some kilohertz differ most."""

NOISE: Final = 3.0
"""Standard deviation, in steps of the converter: what 8.7 effective of 12 bits come to, as the
RP2040's datasheet has them. *Unverified*."""

_FULL_SCALE: Final = 4095


def sampled(frequency: float, period: float, count: int, random: Random) -> tuple[int, ...]:
    """Samples of a pin.

    Args:
        frequency: rises of the pin a second.
        period: seconds from one sample to the next.
        count: how many samples.
        random: for the noise, and for where in the wave the first one falls.
    """
    phase, gauss = random.random(), random.gauss
    voltages = (_voltage(frequency, phase + frequency * period * i) for i in range(count))
    return tuple(
        min(max(round(_FULL_SCALE * voltage + gauss(0.0, NOISE)), 0), _FULL_SCALE)
        for voltage in voltages
    )


def _voltage(frequency: float, periods: float) -> float:
    """At the capacitor, as a part of the reference, so many periods of the wave after a rise."""
    if frequency <= 0.0:
        return 0.0
    place = periods % 1.0
    half = 0.5 / frequency / TIME_CONSTANT
    highest = 1.0 / (1.0 + math.exp(-half))
    elapsed = (place % 0.5) / frequency / TIME_CONSTANT
    if place < 0.5:
        return 1.0 - highest * math.exp(-elapsed)
    return highest * math.exp(-elapsed)
