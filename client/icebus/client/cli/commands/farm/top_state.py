"""The farm as ``icebus top`` shows it: what is heard goes in, sums and rates come out. Pure.

Rates are of workers' counters, which come with each heartbeat. How fast single boards are is told
by their results, which only who holds them hears.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from icebus.client._farm.survey import Survey
from icebus.schemas.components import WorkerHeartbeat
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.liveness import is_gone, stale_after
from icebus.schemas.operations.reservations import HoldState, Reservation, ReservationState
from icebus.schemas.topics import (
    CLAIM,
    CONTROL_HEARTBEAT,
    CONTROL_STATE,
    DEVICE,
    RESERVATION,
    WORKER_HEARTBEAT,
    WORKER_STATE,
)

if TYPE_CHECKING:
    from icebus.schemas.topics import Topic

TOPICS: Final = (
    *(CONTROL_STATE, CONTROL_HEARTBEAT, WORKER_STATE, WORKER_HEARTBEAT),
    *(DEVICE, CLAIM, RESERVATION),
)
"""What is listened to."""

WINDOW: Final = 30.0
"""Seconds over which rates are taken, as on the web page: shorter would jump with each batch."""

SAMPLES: Final = 64
"""Of one worker that are kept: two a second for the window, whatever sends more."""

MOST_BOARDS: Final = 10_000
"""Boards of which results are counted."""

SLICE: Final = 1.0
"""Seconds in which the results of a board are counted together."""

UNANSWERING: Final = "unanswering"

TROUBLED: Final = (DeviceState.BROKEN, DeviceState.QUARANTINED, DeviceState.ABSENT)

_HELD = (HoldState.SERVING, HoldState.PREPARING)


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    results: int
    failures: int


@dataclass(frozen=True)
class Rate:
    """What ends in a second."""

    results: float
    failures: float


@dataclass
class _BoardCount:
    """Results of one board, by the second in which they came."""

    slices: deque[tuple[float, int]] = field(default_factory=deque)
    since: float = 0.0

    def add(self, at: float) -> None:
        start = at - at % SLICE
        if self.slices and self.slices[-1][0] == start:
            self.slices[-1] = (start, self.slices[-1][1] + 1)
        else:
            self.since = self.since or at
            self.slices.append((start, 1))
        self.forget(at)

    def forget(self, at: float) -> None:
        while self.slices and self.slices[0][0] < at - WINDOW:
            self.slices.popleft()

    def rate(self, at: float) -> float:
        self.forget(at)
        seconds = min(WINDOW, max(SLICE, at - self.since))
        return sum(count for _, count in self.slices) / seconds


class TopState:
    """What is known of a farm. Not for several threads at once.

    All moments are of the monotonic clock, but for those in messages.
    """

    def __init__(self) -> None:
        self._farm = Survey()
        self._samples: dict[str, tuple[str, deque[_Sample]]] = {}
        self._boards: dict[str, _BoardCount] = {}
        self.away: tuple[str, datetime | None] | None = None
        """Why the farm is away, and since when; None while it is there."""

    # --- what is heard --------------------------------------------------------------------------

    def take(self, topic: Topic, ids: Mapping[str, str], payload: bytes, at: float) -> None:
        """Take in what came on a topic; nothing in it means that what it told of is gone.

        Raises:
            InvalidRequest: it is not what its topic is for.
        """
        self._farm.take(topic, ids, payload)
        if not payload:
            self._forget_counts(topic, ids)
        elif topic is WORKER_HEARTBEAT:
            self._add_sample(ids["worker"], self._farm.heartbeats[ids["worker"]], at)

    def result_came(self, serial: str, at: float) -> None:
        """A board that the user holds has a result."""
        if serial in self._boards or len(self._boards) < MOST_BOARDS:
            self._boards.setdefault(serial, _BoardCount()).add(at)

    def _forget_counts(self, topic: Topic, ids: Mapping[str, str]) -> None:
        """What was counted of a worker or a board that is gone."""
        if topic is WORKER_HEARTBEAT:
            self._samples.pop(ids["worker"], None)
        elif topic is DEVICE:
            self._boards.pop(ids["serial"], None)

    def _add_sample(self, worker: str, echo: WorkerHeartbeat, at: float) -> None:
        results, failures = echo.load.results, echo.load.failures
        if results is None or failures is None:
            return
        session, samples = self._samples.get(worker, ("", deque()))
        if session != echo.session:  # it counts anew
            samples = deque(maxlen=SAMPLES)
        self._samples[worker] = (echo.session, samples)
        samples.append(_Sample(at, results, failures))
        while len(samples) > 2 and samples[1].at < at - WINDOW:
            samples.popleft()

    # --- what follows ---------------------------------------------------------------------------

    def measured(self, at: float) -> bool:
        """Whether a rate is known of each worker that is there."""
        there = [name for name, state in self._farm.workers.items() if not is_gone(state)]
        return bool(there) and all(self.rate(name, at) is not None for name in there)

    def rate(self, worker: str, at: float) -> Rate | None:
        """What ends on the boards of a worker; None while that is not known, or not any more."""
        _, samples = self._samples.get(worker, ("", deque[_Sample]()))
        if len(samples) < 2 or samples[-1].at <= samples[0].at:
            return None
        beat = self._farm.heartbeat
        if at - samples[-1].at > stale_after(1.0 if beat is None else beat.interval):
            return None
        first, last = samples[0], samples[-1]
        seconds = last.at - first.at
        return Rate(
            max(0, last.results - first.results) / seconds,
            max(0, last.failures - first.failures) / seconds,
        )

    def document(self, at: float, now: datetime) -> dict[str, Any]:
        """All that is shown, for programs; its shape never changes.

        Args:
            at: the present, on the monotonic clock.
            now: the same, as messages have it.
        """
        reports = self._reports()
        rates = [
            rate for worker in self._farm.workers if (rate := self.rate(worker, at)) is not None
        ]
        queue = self._queue()
        loads = [echo.load for echo in self._farm.heartbeats.values()]
        return {
            "at": now.isoformat(timespec="milliseconds"),
            "away": None if self.away is None else _away(*self.away),
            "leader": self._leader(),
            "boards": dict(_in_order(Counter(report.state.value for report in reports))),
            "results_per_second": round(sum(each.results for each in rates), 3) if rates else None,
            "failures_per_second": (
                round(sum(each.failures for each in rates), 3) if rates else None
            ),
            "queued_evaluations": sum(load.queued for load in loads),
            "workers": [self._worker(name, at) for name in sorted(self._farm.workers)],
            "holders": holders(self._farm.reservations.values()),
            "queue": [_waiting(each, now) for each in queue],
            "troubled": [_troubled(each) for each in _by_age(reports)],
            "slowest": self._slowest(at),
        }

    def _reports(self) -> list[DeviceReport]:
        farm = self._farm
        return [
            report
            for (worker, serial), report in sorted(farm.devices.items())
            if not farm.merely_claims(worker, serial)
        ]

    def _leader(self) -> str | None:
        leading = [name for name, state in self._farm.controls.items() if state.leading]
        return next(
            (name for name in sorted(leading) if not is_gone(self._farm.controls[name])), None
        )

    def _worker(self, name: str, at: float) -> dict[str, Any]:
        state, echo, rate = (
            self._farm.workers[name],
            self._farm.heartbeats.get(name),
            self.rate(name, at),
        )
        silent = self._farm.answers(name) is False and not is_gone(state)
        return {
            "worker": name,
            "state": UNANSWERING if silent else state.state.value,
            "boards": len(state.serials),
            "serving": None if echo is None else echo.load.serving,
            "queued": None if echo is None else echo.load.queued,
            "results_per_second": None if rate is None else round(rate.results, 3),
            "failures_per_second": None if rate is None else round(rate.failures, 3),
            "heartbeat": self._farm.age(name),
        }

    def _queue(self) -> list[Reservation]:
        waiting = [
            each
            for each in self._farm.reservations.values()
            if each.state is ReservationState.QUEUED
        ]
        return sorted(
            waiting, key=lambda each: (each.queue.position if each.queue else 0, each.created)
        )

    def _slowest(self, at: float) -> list[dict[str, Any]]:
        rates = {serial: count.rate(at) for serial, count in self._boards.items()}
        slowest = sorted(rates, key=lambda serial: (rates[serial], serial))
        return [{"serial": each, "results_per_second": round(rates[each], 3)} for each in slowest]


def holders(reservations: Iterable[Reservation]) -> list[dict[str, Any]]:
    """Who holds boards or waits for some, most boards first."""
    found: dict[str, dict[str, Any]] = {}
    for each in reservations:
        who = found.setdefault(
            each.user,
            {"user": each.user, "boards": 0, "kinds": [], "queued": 0, "until": None},
        )
        if each.state is ReservationState.QUEUED:
            who["queued"] += 1
            continue
        who["boards"] += sum(device.state in _HELD for device in each.devices)
        who["kinds"] = sorted({*who["kinds"], each.kind})
        ends = each.until.isoformat(timespec="seconds")
        who["until"] = ends if who["until"] is None else min(ends, who["until"])
    return sorted(found.values(), key=lambda who: (-who["boards"], who["user"]))


def _in_order(states: Mapping[str, int]) -> list[tuple[str, int]]:
    order = [state.value for state in DeviceState]
    return sorted(states.items(), key=lambda each: order.index(each[0]))


def _waiting(each: Reservation, now: datetime) -> dict[str, Any]:
    return {
        "reservation": each.id,
        "user": each.user,
        "kind": each.kind,
        "position": each.queue.position if each.queue else None,
        "reason": each.queue.reason if each.queue else "",
        "seconds": max(0, round((now - each.created).total_seconds())),
    }


def _by_age(reports: Iterable[DeviceReport]) -> list[DeviceReport]:
    bad = [each for each in reports if each.state in TROUBLED]
    return sorted(bad, key=lambda each: (each.since, each.serial))


def _troubled(each: DeviceReport) -> dict[str, Any]:
    return {
        "serial": each.serial,
        "state": each.state.value,
        "since": each.since.isoformat(timespec="seconds"),
        "reason": each.reason,
    }


def _away(why: str, since: datetime | None) -> dict[str, Any]:
    at = None if since is None else since.isoformat(timespec="seconds")
    return {"reason": why, "since": at}
