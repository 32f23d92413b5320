"""What an experiment has come to, summed up as its outcomes come. Pure, and bounded in memory."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from icebus.schemas.experiment import (
    LONGEST_NAME,
    MOST_BINS,
    MOST_BOARDS,
    MOST_NUMBERS,
    MOST_SPANS,
    Experiment,
    ExperimentRun,
    Extreme,
    Histogram,
    Number,
    Span,
    Spread,
    numbers_of,
)
from icebus.schemas.measuring import Failure, Outcome, Result

COMMON = frozenset(Result.model_fields)
"""What results of every kind have."""

LARGEST = 1e300
"""Of values that are summed up; sums of larger ones could be infinite, which JSON has not."""

SMALLEST_WIDTH = -1000
"""Of a bin, as a power of two: floats begin to lose digits below."""

LARGEST_INDEX = 2.0**52
"""Of a bin: up to there it is exact."""

FIRST_SPAN = 1.0
"""Seconds of the spans of time that results are summed up over, until there are too many of them;
then two become one, and so on."""


@dataclass
class _Moments:
    """Count, mean and spread of values that are not kept.

    By Welford's method: exact enough where values are large and differ little.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    lowest: float = math.inf
    highest: float = -math.inf

    def add(self, value: float) -> None:
        self.count += 1
        delta = value - self.mean
        self.mean += delta / self.count
        self.squares += delta * (value - self.mean)
        self.lowest = min(self.lowest, value)
        self.highest = max(self.highest, value)

    def merge(self, other: _Moments) -> None:
        count = self.count + other.count
        delta = other.mean - self.mean
        self.mean += delta * other.count / count
        self.squares += other.squares + delta * delta * self.count * other.count / count
        self.count = count
        self.lowest = min(self.lowest, other.lowest)
        self.highest = max(self.highest, other.highest)

    def spread(self) -> Spread:
        deviation = math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else None
        return Spread(
            count=self.count,
            mean=self.mean,
            deviation=deviation if deviation is not None and math.isfinite(deviation) else None,
            lowest=self.lowest,
            highest=self.highest,
        )


@dataclass
class _Bins:
    """How often values fell into equal bins, which become twice as wide when they are too many."""

    width: float = 0.0
    counts: Counter[int] = field(default_factory=Counter)

    def add(self, value: float) -> None:
        if not self.width:
            # Fine beside the first value; a power of two, so that two bins are one exactly.
            self.width = 2.0 ** max(SMALLEST_WIDTH, math.frexp(value or 1.0)[1] - 20)
        while abs(value) / self.width > LARGEST_INDEX:
            self._widen()
        self.counts[math.floor(value / self.width)] += 1
        while max(self.counts) - min(self.counts) >= MOST_BINS:
            self._widen()

    def _widen(self) -> None:
        self.width *= 2
        merged = Counter[int]()
        for index, count in self.counts.items():
            merged[index // 2] += count
        self.counts = merged

    def histogram(self) -> Histogram:
        first, last = min(self.counts), max(self.counts)
        return Histogram(
            lowest=first * self.width,
            width=self.width,
            counts=[self.counts[index] for index in range(first, last + 1)],
        )


@dataclass
class _Number:
    """One number of the results."""

    lowest: Extreme
    highest: Extreme
    boards: dict[str, _Moments] = field(default_factory=dict)
    bins: _Bins = field(default_factory=_Bins)
    spans: dict[int, _Moments] = field(default_factory=dict)
    span: float = FIRST_SPAN

    def add(self, value: float, result: Result, after: float) -> None:
        """Take a value, so many seconds after the beginning."""
        if value < self.lowest.value:
            self.lowest = _extreme(value, result)
        if value > self.highest.value:
            self.highest = _extreme(value, result)
        self.bins.add(value)
        if result.serial in self.boards or len(self.boards) < MOST_BOARDS:
            self.boards.setdefault(result.serial, _Moments()).add(value)
        self.spans.setdefault(int(after / self.span), _Moments()).add(value)
        while len(self.spans) > MOST_SPANS:
            self.span *= 2
            spans, self.spans = self.spans, {}
            for index, moments in spans.items():
                self.spans.setdefault(index // 2, _Moments()).merge(moments)

    def told(self, name: str, began: datetime) -> Number:
        return Number(
            name=name[:LONGEST_NAME],
            lowest=self.lowest,
            highest=self.highest,
            boards={serial: each.spread() for serial, each in sorted(self.boards.items())},
            histogram=self.bins.histogram(),
            spans=[
                Span(
                    at=began + timedelta(seconds=index * self.span),
                    count=each.count,
                    mean=each.mean,
                    lowest=each.lowest,
                    highest=each.highest,
                )
                for index, each in sorted(self.spans.items())
            ],
            span=self.span,
        )


def _extreme(value: float, result: Result) -> Extreme:
    name = result.bitstream[:LONGEST_NAME]
    return Extreme(value=value, bitstream=name, serial=result.serial, at=result.at)


class Tally:
    """The sums of one experiment: all runs of one client with one reservation.

    Args:
        reservation: its id.
        kind: what it is for.
    """

    def __init__(self, reservation: str, kind: str) -> None:
        self._reservation = reservation
        self._kind = kind
        self._began: datetime | None = None
        self._runs = 0
        self._run: ExperimentRun | None = None
        self._results = 0
        self._failures = 0
        self._before = 0, 0
        self._failed = Counter[str]()
        self._numbers: dict[str, _Number] = {}

    def begin(self, total: int | None, now: datetime) -> None:
        """A run begins, of so many outcomes if that is known."""
        self._began = self._began or now
        self._runs += 1
        self._run = ExperimentRun(began=now, results=0, failures=0, total=total)
        self._before = self._results, self._failures

    def add(self, outcome: Outcome, now: datetime) -> None:
        """An outcome of a run has come."""
        if isinstance(outcome, Failure):
            self._failures += 1
            if outcome.serial in self._failed or len(self._failed) < MOST_BOARDS:
                self._failed[outcome.serial] += 1
        elif isinstance(outcome, Result):
            self._results += 1
            self._add_numbers(outcome, now)

    def end(self, now: datetime) -> None:
        """The run is over."""
        if self._run is not None:
            self._run = self._run.model_copy(update={"ended": now})

    def told(self, now: datetime) -> Experiment | None:
        """How it stands; None before the first run."""
        if self._began is None or self._run is None:
            return None
        results, failures = self._before
        run = {"results": self._results - results, "failures": self._failures - failures}
        return Experiment(
            reservation=self._reservation,
            kind=self._kind,
            began=self._began,
            at=now,
            runs=self._runs,
            run=self._run.model_copy(update=run),
            results=self._results,
            failures=self._failures,
            failed=dict(self._failed),
            numbers=[each.told(name, self._began) for name, each in self._numbers.items()],
        )

    def _add_numbers(self, result: Result, now: datetime) -> None:
        fields = {**vars(result), **(result.model_extra or {})}
        after = (now - (self._began or now)).total_seconds()
        for name in numbers_of(fields, COMMON):
            value = float(fields[name])
            if not abs(value) <= LARGEST:
                continue
            number = self._numbers.get(name)
            if number is None:
                if len(self._numbers) == MOST_NUMBERS:
                    continue
                extreme = _extreme(value, result)
                number = self._numbers[name] = _Number(lowest=extreme, highest=extreme)
            number.add(value, result, max(0.0, after))
