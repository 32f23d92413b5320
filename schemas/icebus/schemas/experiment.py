"""How an experiment stands: what a client says of its evaluations with one reservation.

All in sums and bounded lists, so that a page which is opened on the third day shows all three, and
the message is as large then as in the first minute.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, FiniteFloat

from icebus.schemas.ids import Id
from icebus.schemas.message import Message, Natural, Timestamp

LONGEST_NAME = 200
"""Characters of a bitstream's name that are told."""

MOST_BOARDS = 48
"""Boards that are compared; of more, those that come first by their serials."""

MOST_BINS = 64
"""Bins of a histogram."""

MOST_SPANS = 60
"""Spans of time whose results are told summed up."""

MOST_NUMBERS = 3
"""Numbers of a kind's results that are summed up, those that say what came out first."""

ABOUT_MEASURING = frozenset(
    {"upload", "window", "resolution", "counted", "temperature", "samples", "rate"}
)
"""Fields that kinds use for how something was measured; what came out is of more interest."""

Name = Annotated[str, Field(max_length=LONGEST_NAME)]


class ExperimentRun(Message):
    """One call of ``evaluate`` or ``map``."""

    began: Timestamp
    ended: Timestamp | None = None
    results: Natural
    failures: Natural
    total: Natural | None = Field(
        default=None, description="Outcomes there will be; null for a source without a length."
    )


class Extreme(Message):
    """The lowest or highest value so far."""

    value: FiniteFloat
    bitstream: Name
    serial: str
    at: Timestamp


class Spread(Message):
    """One number of one board's results."""

    count: Natural
    mean: FiniteFloat
    deviation: FiniteFloat | None = Field(
        default=None, description="Of a sample; null of fewer than two."
    )
    lowest: FiniteFloat
    highest: FiniteFloat


class Histogram(Message):
    """How often values fell into equal bins that adjoin."""

    lowest: FiniteFloat = Field(description="The lower edge of the first bin.")
    width: FiniteFloat = Field(gt=0)
    counts: list[Natural] = Field(max_length=MOST_BINS)


class Span(Message):
    """What came within a span of time: its beginning is told, its length is that of all."""

    at: Timestamp
    count: Natural
    mean: FiniteFloat
    lowest: FiniteFloat
    highest: FiniteFloat


class Number(Message):
    """One number of the results, such as ``pulses``."""

    name: Name
    lowest: Extreme
    highest: Extreme
    boards: dict[str, Spread] = Field(max_length=MOST_BOARDS)
    histogram: Histogram
    spans: list[Span] = Field(max_length=MOST_SPANS)
    span: FiniteFloat = Field(gt=0, description="Seconds of each.")


class Experiment(Message):
    """All that one client has evaluated with one reservation."""

    reservation: Id
    kind: str
    began: Timestamp
    at: Timestamp = Field(description="When it was so.")
    runs: Natural = Field(description="How many have begun, the last of which is `run`.")
    run: ExperimentRun
    results: Natural
    failures: Natural
    failed: dict[str, Natural] = Field(
        default_factory=dict, max_length=MOST_BOARDS, description="Failures of each board."
    )
    numbers: list[Number] = Field(default_factory=list, max_length=MOST_NUMBERS)


def numbers_of(fields: dict[str, Any], common: frozenset[str]) -> list[str]:
    """Names of the fields that are numbers, those that say what came out first.

    Args:
        fields: of a result.
        common: fields that results of every kind have.
    """
    found = [
        name
        for name, value in fields.items()
        if name not in common and isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return sorted(found, key=ABOUT_MEASURING.__contains__)[:MOST_NUMBERS]
