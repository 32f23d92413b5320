"""How many evaluations end in each minute, from what workers count. In memory, pure but for that.

Every control counts, so that whoever begins to lead has the last day; what was counted before it
was started it takes from what the leader published.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from icebus.schemas.components import WorkerHeartbeat
from icebus.schemas.throughput import LARGEST_COUNT, MINUTE, MOST_MINUTES, Throughput


@dataclass(frozen=True)
class _Counted:
    """What a run of a worker had counted at a time of the monotonic clock."""

    session: str
    results: int
    failures: int
    at: float


@dataclass
class _Minute:
    results: int = 0
    failures: int = 0


class FarmThroughput:
    """Adds up what workers count, by the minute.

    Times are seconds since 1970, those that are called ``monotonic`` of the monotonic clock.

    Args:
        now: when counting begins; what is left of that minute is not counted.
        settle: seconds after a minute until all workers have told what they counted in it.
    """

    def __init__(self, now: float, settle: float) -> None:
        self._settle = settle
        self._from = _minute(now) + 1
        self._workers: dict[str, _Counted] = {}
        self._minutes: dict[int, _Minute] = {}
        self._told: dict[int, _Minute] = {}
        self._published: int | None = None

    def on_echo(self, worker: str, echo: WorkerHeartbeat, now: float, monotonic: float) -> None:
        """A worker told what it has counted since it was started.

        What it counts since it was last heard is spread evenly over the time between.
        """
        load = echo.load
        if load.results is None or load.failures is None:
            return
        before = self._workers.get(worker)
        after = _Counted(echo.session, load.results, load.failures, monotonic)
        self._workers[worker] = after
        if before is None:
            return
        if before.session != after.session:  # it began at nothing meanwhile
            before = _Counted(after.session, 0, 0, before.at)
        if after.results < before.results or after.failures < before.failures:
            return
        self._spread(before, after, now)
        self._forget(now)

    def on_retired(self, worker: str) -> None:
        """A worker is no more."""
        self._workers.pop(worker, None)

    def on_told(self, told: Throughput, now: float) -> None:
        """What a control has published; our own counts are preferred to it."""
        first = _minute(told.began.timestamp())
        for minute, (results, failures) in enumerate(
            zip(told.results, told.failures, strict=True), first
        ):
            if results is not None and failures is not None:
                self._told[minute] = _Minute(results, failures)
        self._forget(now)

    def repeat(self) -> None:
        """The broker may have forgotten what was published."""
        self._published = None

    def due(self, now: float) -> Throughput | None:
        """What is to be published now: once for every minute; None while there is nothing new."""
        last = _minute(now - self._settle) - 1
        if self._published is not None and self._published == last:
            return None
        self._forget(now)
        known = {**self._told, **self._minutes}
        minutes = [minute for minute in known if minute <= last]
        if not minutes:
            return None
        self._published = last
        first = max(min(minutes), last - MOST_MINUTES + 1)
        counts = [known.get(minute) for minute in range(first, last + 1)]
        return Throughput(
            began=datetime.fromtimestamp(first * MINUTE, UTC),
            results=[None if each is None else min(each.results, LARGEST_COUNT) for each in counts],
            failures=[
                None if each is None else min(each.failures, LARGEST_COUNT) for each in counts
            ],
        )

    def _spread(self, before: _Counted, after: _Counted, now: float) -> None:
        """Add a difference to the minutes between, each its share in whole numbers."""
        results, failures = after.results - before.results, after.failures - before.failures
        span = max(0.0, after.at - before.at)

        def until(at: float) -> tuple[int, int]:
            elapsed = at - (now - span)
            if elapsed <= 0:
                return 0, 0
            if at >= now:
                return results, failures
            return math.floor(results * elapsed / span), math.floor(failures * elapsed / span)

        newest = _minute(now)
        first = max(_minute(now - span), newest - MOST_MINUTES, self._from)
        done = until(first * MINUTE)
        for minute in range(first, newest + 1):
            upto = until((minute + 1) * MINUTE)
            known = self._minutes.setdefault(minute, _Minute())
            known.results += upto[0] - done[0]
            known.failures += upto[1] - done[1]
            done = upto

    def _forget(self, now: float) -> None:
        """Drop what is too old, or of a future that a clock showed which was then set back."""
        newest = _minute(now)
        for minutes in (self._minutes, self._told):
            for minute in [m for m in minutes if not newest - MOST_MINUTES <= m <= newest]:
                del minutes[minute]
        # Where the clock was set back, what is counted now is of minutes before the first.
        self._from = min(self._from, newest + 1)


def _minute(at: float) -> int:
    return math.floor(at / MINUTE)
