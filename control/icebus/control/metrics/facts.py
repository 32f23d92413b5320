"""The farm as control knows it at one moment."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import func
from sqlmodel import col, select

from icebus.control.store.live import IS_LIVE
from icebus.control.store.tables import ReservationRow
from icebus.control.transaction import Transaction
from icebus.control.watch.workers import Workers
from icebus.schemas.liveness import Health, is_gone
from icebus.schemas.operations.reservations import ReservationState
from icebus.schemas.supervision.registry import OTHER

NO_KIND = ""
"""Kind of a device that is for nothing in particular now."""

UNANSWERING = "unanswering"
"""State of a worker that says it is there and does not answer heartbeats."""

UNHEARD = "unheard"
"""State of a worker of which there is only what the database has."""

WORKERS = 1000
"""Workers that have series of their own."""

KINDS = 50
"""Kinds that have: those that most workers offer. One whose key was stolen may offer any number."""


@dataclass(frozen=True)
class Reservations:
    """What the database has of them.

    Attributes:
        by_state: how many, by state and kind.
        oldest_wait: seconds that the oldest in the queue has waited; 0 for an empty queue.
    """

    by_state: Mapping[tuple[str, str], int]
    oldest_wait: float

    @property
    def queued(self) -> int:
        """How many wait."""
        queued = ReservationState.QUEUED.value
        return sum(count for (state, _), count in self.by_state.items() if state == queued)


@dataclass(frozen=True)
class FarmFacts:
    """What control knows.

    Attributes:
        leading: whether this control leads.
        devices: how many, by state and kind.
        workers: how many, by state.
        heartbeat_ages: seconds since workers last answered a heartbeat, by their names.
        claimed: devices that several workers say they have.
        reservations: None while the database can't be used.
        at: when this was found, on the monotonic clock.
    """

    leading: bool
    devices: Mapping[tuple[str, str], int]
    workers: Mapping[str, int]
    heartbeat_ages: Mapping[str, float]
    claimed: int
    reservations: Reservations | None
    at: float = field(default_factory=time.monotonic)


def of_workers(workers: Workers, at: float, **more: object) -> FarmFacts:
    """The farm as its workers tell of it.

    Args:
        workers: that are known.
        at: the present, on the monotonic clock.
        more: the facts that are not theirs.
    """
    offered = Counter(kind for worker in workers.all() for kind in worker.kinds)
    kinds = {kind for kind, _ in offered.most_common(KINDS)}
    devices: Counter[tuple[str, str]] = Counter()
    claimed = 0
    for serial in workers.serials():
        report = workers.report(serial)
        claimed += bool(workers.claimants(serial))
        if report is not None:
            kind = report.kind or NO_KIND
            devices[report.state.value, kind if kind in kinds or not kind else OTHER] += 1
    states = Counter(_state(workers, worker.name, at) for worker in workers.all())
    ages = {
        worker.name: max(0.0, at - worker.echoed_at)
        for worker in sorted(workers.all(), key=lambda worker: worker.name)
        if worker.state is not None and worker.echoed_session
    }
    return FarmFacts(
        devices=devices,
        workers=states,
        heartbeat_ages=dict(list(ages.items())[:WORKERS]),
        claimed=claimed,
        **more,  # type: ignore[arg-type]
    )


def _state(workers: Workers, name: str, at: float) -> str:
    said = workers.get(name).state
    if said is None:
        return UNHEARD
    silent = workers.health(name, at) is Health.GONE and not is_gone(said)
    return UNANSWERING if silent else said.state.value


def of_reservations(transaction: Transaction) -> Reservations:
    """What the database has of reservations that live."""
    rows = transaction.session.exec(
        select(
            ReservationRow.state,
            ReservationRow.kind,
            func.count(),
            func.min(col(ReservationRow.created)),
        )
        .where(IS_LIVE)
        .group_by(col(ReservationRow.state), col(ReservationRow.kind))
    )
    counts: dict[tuple[str, str], int] = {}
    oldest: datetime | None = None
    for state, kind, count, created in rows:
        counts[str(state), kind] = count
        if state == ReservationState.QUEUED:
            oldest = created if oldest is None else min(oldest, created)
    waited = 0.0 if oldest is None else (transaction.now - oldest).total_seconds()
    return Reservations(counts, max(0.0, waited))
