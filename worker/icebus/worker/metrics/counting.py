"""Counts evaluations and what boards go through, for Prometheus."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from icebus.schemas.measuring import Failure, Outcome, Result
from icebus.schemas.supervision.registry import OTHER, SECONDS
from icebus.worker.metrics.observer import Observer, Step

SERIALS: Final = 2000
"""Boards that have series of their own: as many as control minds of one worker."""

UNACKNOWLEDGED: Final = 10_000
"""Outcomes of which is remembered when they were had, until a client has them."""

RESULT: Final = "result"


class Counting(Observer):
    """Counts. Used on the devices' loop; read from any thread.

    Args:
        registry: where the metrics are kept.
        kinds: that boards may be reserved for.
    """

    def __init__(self, registry: CollectorRegistry, kinds: Iterable[str]) -> None:
        self._evaluations = Counter(
            "icebus_worker_evaluations",
            "Evaluations that ended: with a result, or a failure by its code.",
            ["kind", "outcome"],
            registry=registry,
        )
        self._phases = Histogram(
            "icebus_worker_evaluation_phase_seconds",
            "Parts of evaluations with a result: queued at the worker, upload, waiting on the "
            "board, configuring, measuring; delivery is until its client has acknowledged it.",
            ["kind", "phase"],
            buckets=SECONDS,
            registry=registry,
        )
        self._of_board = Counter(
            "icebus_worker_board_evaluations",
            "Evaluations that ended on a board.",
            ["serial", "outcome"],
            registry=registry,
        )
        self._busy = Counter(
            "icebus_worker_board_busy_seconds",
            "Seconds in which a board configured and measured.",
            ["serial"],
            registry=registry,
        )
        self._failures = Counter(
            "icebus_worker_board_failures",
            "Times that a board did not do what it should.",
            ["serial"],
            registry=registry,
        )
        self._steps = Counter(
            "icebus_worker_board_steps",
            "What boards went through: commands, upgrades and recovery together.",
            ["step"],
            registry=registry,
        )
        for kind in kinds:
            self._evaluations.labels(kind, RESULT)
        for step in Step:
            self._steps.labels(step.value)
        self._serials: set[str] = set()
        self._had: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def evaluated(self, serial: str, kind: str, outcome: Outcome) -> None:
        """An evaluation has its outcome."""
        self._had[outcome.evaluation] = (kind, time.monotonic())
        if len(self._had) > UNACKNOWLEDGED:
            self._had.popitem(last=False)
        if isinstance(outcome, Failure):
            self._evaluations.labels(kind, outcome.error.code).inc()
            self._of_board.labels(self._label(serial), "failure").inc()
        elif isinstance(outcome, Result):
            self._evaluations.labels(kind, RESULT).inc()
            self._of_board.labels(self._label(serial), RESULT).inc()
            self._busy.labels(self._label(serial)).inc(outcome.window)
            for phase, seconds in phases(outcome):
                self._phases.labels(kind, phase).observe(seconds)

    def acknowledged(self, evaluations: Iterable[str]) -> None:
        """Clients have the outcomes of these."""
        at = time.monotonic()
        for evaluation in evaluations:
            kind, had_at = self._had.pop(evaluation, ("", 0.0))
            if kind:
                self._phases.labels(kind, "delivery").observe(at - had_at)

    def failed(self, serial: str) -> None:
        """A board did not do what it should."""
        self._failures.labels(self._label(serial)).inc()

    def stepped(self, step: Step) -> None:
        """A board goes through something."""
        self._steps.labels(step.value).inc()

    def _label(self, serial: str) -> str:
        """The board's own, unless more have come by than a worker has."""
        if serial not in self._serials:
            if len(self._serials) >= SERIALS:
                return OTHER
            self._serials.add(serial)
        return serial


def phases(result: Result) -> Iterable[tuple[str, float]]:
    """The parts of an evaluation whose length is known, with their seconds."""
    configuring = result.configured or 0.0
    parts = (
        ("queued", result.queued),
        ("upload", result.upload),
        ("waiting", result.waited),
        ("configuring", result.configured),
        ("measuring", max(0.0, result.window - configuring)),
    )
    return [(phase, seconds) for phase, seconds in parts if seconds is not None]
