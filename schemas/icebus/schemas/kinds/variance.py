"""Kind ``variance``: how much a voltage moves while a circuit runs, from one sample to the next.

That mean is what evolutionary searches for circuits use as fitness, and call variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

from pydantic import Field

from icebus.schemas import measuring
from icebus.schemas.boards.firmware import Chip
from icebus.schemas.measuring import Result
from icebus.schemas.message import Args, Natural

KIND = "variance"
FIRMWARE = "icebus"

INPUTS = {Chip.RP2040: 2, Chip.RP2350: 1}
"""The converter's input that is sampled unless another is asked for: the first that the firmware
says the board has (*unverified*: from the boards' published layouts)."""

INPUT = 2
"""The same for a board whose chip is not known: both have it."""

RATE = 10_000
SAMPLES = 500
"""Samples a second and their number, as labs take them."""

RATES = (1_000, 500_000)
MOST_SAMPLES = 2048
"""What our firmware can do."""

FULL_SCALE = 4095
"""The sample that means the converter's reference voltage."""


class VarianceArgs(Args):
    """What a reservation of this kind may ask for: nothing yet."""


class VarianceMeasurement(Args):
    """What a measurement may ask for."""

    input: int | None = Field(
        default=None, ge=0, le=7, description="Of the board's converter; null for its first."
    )
    rate: int = Field(default=RATE, ge=RATES[0], le=RATES[1], description="Samples a second.")
    samples: int = Field(default=SAMPLES, ge=2, le=MOST_SAMPLES, description="How many.")
    waveform: bool = Field(default=False, description="Whether the result is to have them all.")

    @property
    def seconds(self) -> float:
        """How long sampling takes."""
        return self.samples / self.rate


Sample = Annotated[int, Field(ge=0, le=FULL_SCALE)]
"""A voltage; 4095 is the converter's reference."""


class VarianceResult(Result):
    """Event ``results``: one bitstream measured on one device."""

    mean_difference: float = Field(
        ge=0,
        description="Mean absolute difference of consecutive samples, in steps of the converter.",
    )
    lowest: Sample = Field(description="The lowest sample; 4095 is the converter's reference.")
    highest: Sample
    samples: Natural = Field(description="How many were taken.", json_schema_extra={"table": False})
    rate: float = Field(
        ge=0,
        description="Samples a second, in truth.",
        json_schema_extra={"table": False},
    )
    exact: bool = Field(description="True when sampled by a board; false for a synthetic signal.")
    cdone: bool | None = Field(
        default=None,
        description="Whether the FPGA took the configuration; null where not told.",
        json_schema_extra={"table": False},
    )
    note: str = Field(
        default="", description="Why it is not exact, or what became of the bitstream."
    )
    waveform: list[Sample] | None = Field(
        default=None,
        description="All samples in order, where asked for.",
        json_schema_extra={"table": False},
    )
    temperature: float | None = Field(
        default=None,
        description="Of the board's microcontroller, degrees Celsius; null where not told.",
        json_schema_extra={"table": False},
    )


def mean_difference(samples: Sequence[int]) -> float:
    """The mean absolute difference of consecutive samples; 0 of fewer than two."""
    differences = [abs(after - before) for before, after in pairwise(samples)]
    return sum(differences) / len(differences) if differences else 0.0


EVENTS = measuring.events(VarianceResult)
ANSWERS = measuring.ANSWERS
