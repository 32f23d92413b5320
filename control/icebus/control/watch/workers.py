"""What control knows of workers from the bus: states, echoes, kinds and reports. In memory.

Moments here are of the monotonic clock, so that setting the time makes nobody stale.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from icebus.bus import RECONNECT_MAX
from icebus.control.watch.kinds import Kind, KindLookup
from icebus.schemas.components import WorkerHeartbeat, WorkerPhase, WorkerState
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.liveness import (
    GONE,
    RETURN_TIME,
    STALE_AFTER,
    Health,
    health,
    is_gone,
    is_late,
    lists_all,
    stale_after,
)

LONGEST_PAUSE = 1.5
"""Heartbeats without a look at the clock after which it was us who stood still."""


@dataclass
class Worker:
    """One worker, as the bus shows it.

    Attributes:
        name: its id.
        state: what it said last.
        echoed_session: the run of it that answered last.
        echoed_at: when that was.
        fresh_until: when its last answer is too old to rely on it.
        expected_from: when it had time enough to answer; until then its silence means nothing.
        gone_at: when it was last said to be gone.
        kinds: what it offers, by name.
        reports: on its devices, by serial.
    """

    name: str
    state: WorkerState | None = None
    echoed_session: str = ""
    echoed_at: float = -math.inf
    fresh_until: float = 0.0
    expected_from: float = 0.0
    gone_at: float = -math.inf
    kinds: dict[str, Kind] = field(default_factory=dict)
    reports: dict[str, DeviceReport] = field(default_factory=dict)

    def current(self, serial: str) -> DeviceReport | None:
        """The report on a device, when this very run of the worker made it."""
        report = self.reports.get(serial)
        if report is None or self.state is None or report.session != self.state.session:
            return None
        return report

    def owns(self, serial: str) -> bool:
        """Whether it owns that device, as far as it has said."""
        report = self.reports.get(serial)
        if report is None or report.state is DeviceState.ABSENT:
            return False
        if self.state is None:
            return True
        return not is_gone(self.state) and self.lists(serial)

    @property
    def drains(self) -> bool:
        """Whether it says that it takes no new reservations."""
        return self.state is not None and self.state.state is WorkerPhase.DRAINING

    def lists(self, serial: str) -> bool:
        """Whether it lists that device; while it starts, its list is still growing."""
        state = self.state
        return state is None or not lists_all(state) or serial in state.serials


class Workers:
    """All workers and their devices.

    Args:
        interval: seconds between heartbeats.
    """

    def __init__(self, interval: float) -> None:
        self._stale_after = stale_after(interval)
        self._longest_pause = LONGEST_PAUSE * interval
        self._clock_read_at = math.inf
        self._connected_at = math.inf
        self._sent: dict[tuple[str, int], float] = {}
        self._workers: dict[str, Worker] = {}
        self._owners: dict[str, str] = {}

    # --- what is heard ------------------------------------------------------------------------

    def restore(self, serial: str, worker: str, report: DeviceReport) -> None:
        """Take over what the database recorded of a device before we heard of it."""
        self._known(worker).reports.setdefault(serial, report)
        self._owners.setdefault(serial, worker)

    def disconnected(self) -> None:
        """The connection is gone: nobody's silence means anything."""
        self._connected_at = math.inf

    def connected(self, at: float) -> None:
        """The connection is new: everybody has a while to be heard again.

        When the broker was away, the workers have yet to find it, as we had.
        """
        self._connected_at = at

    def discount_pause(self, at: float) -> None:
        """Time in which we stood still, until just now, is no time of anybody's silence."""
        pause = at - self._clock_read_at
        self._clock_read_at = at
        if pause < self._longest_pause:
            return
        for worker in self._workers.values():
            worker.fresh_until += pause
            worker.expected_from += pause

    def on_heartbeat(self, epoch: str, sequence: int, at: float) -> None:
        """A heartbeat goes out, from whichever control leads."""
        if at >= max(self._sent.values(), default=-math.inf) + self._longest_pause:
            # Nobody could answer while no heartbeat came.
            for worker in self._workers.values():
                worker.expected_from = max(worker.expected_from, at + self._stale_after)
        self._sent[epoch, sequence] = at
        while len(self._sent) > STALE_AFTER + 1:
            self._sent.pop(next(iter(self._sent)))

    def on_echo(self, worker: str, echo: WorkerHeartbeat, at: float) -> bool:
        """A worker answered a heartbeat; returns whether that made it reliable again.

        What counts is when the heartbeat was sent: an echo that the broker retained proves little.
        """
        sent = self._sent.get((echo.epoch, echo.sequence))
        if sent is None:
            return False
        known = self._known(worker)
        was = known.echoed_session == echo.session and at < known.fresh_until
        known.echoed_session, known.echoed_at = echo.session, at
        known.fresh_until = max(known.fresh_until, sent + self._stale_after)
        known.expected_from = 0.0
        return not was

    def on_kinds(self, worker: str, kinds: dict[str, Kind]) -> None:
        """A worker published what it offers."""
        self._known(worker).kinds = kinds

    def on_state(self, worker: str, state: WorkerState | None, at: float) -> bool:
        """A worker's state changed; returns whether it is a new run of the worker."""
        known = self._known(worker)
        before = known.state
        if state is not None and is_late(before, state):
            return False
        known.state = state
        if state is not None and is_gone(state):
            known.gone_at = at
        for serial in known.reports:
            self._assign_owner(serial)
        new = state is not None and (before is None or before.session != state.session)
        if new or before is None or is_gone(before):
            known.expected_from = at + self._stale_after
        return new

    def on_report(self, worker: str, serial: str, report: DeviceReport | None) -> bool:
        """A worker reported on a device, or forgot it; returns whether anything that counts did."""
        known = self._known(worker)
        before = known.reports.get(serial)
        if report is None:
            if before is None:
                return False
            report = _as_absent(before, "removed")
        known.reports[serial] = report
        self._assign_owner(serial)
        return without_progress(before) != without_progress(report)

    # --- what follows from it -------------------------------------------------------------------

    def health(self, worker: str, at: float) -> Health:
        """Whether that worker can be relied on at this moment."""
        known = self._workers.get(worker)
        state = None if known is None else known.state
        answers = (
            known is not None
            and state is not None
            and known.echoed_session == state.session
            and at < known.fresh_until
        )
        return health(state, answers=answers, expected=self._is_expected(known, at))

    def is_gone_for_good(self, worker: str, at: float) -> bool:
        """Whether a worker is gone and had its time to come back.

        A broker that is stopped tells of the loss of all it knows; they find it again as we do.
        """
        known = self._workers.get(worker)
        since = self._connected_at + RECONNECT_MAX
        if known is not None:
            since = max(since, known.gone_at)
        return at >= since + RETURN_TIME and self.health(worker, at) is Health.GONE

    def why_gone(self, worker: str) -> str:
        """What became of a worker, for people."""
        known = self._workers.get(worker)
        if known is None or known.state is None:
            return f"worker {worker} is not there"
        return f"worker {worker} {GONE.get(known.state.state, 'does not answer heartbeats')}"

    def get(self, name: str) -> Worker:
        """What is known of a worker."""
        return self._workers.get(name) or Worker(name)

    def all(self) -> Iterator[Worker]:
        """All workers ever heard of."""
        return iter(self._workers.values())

    def kinds(self) -> KindLookup:
        """What all workers offer now."""
        return KindLookup({worker.name: worker.kinds for worker in self._workers.values()})

    def owner(self, serial: str) -> str | None:
        """The worker that a device belongs to."""
        return self._owners.get(serial)

    def serials(self) -> Iterable[str]:
        """All devices ever heard of."""
        return self._owners.keys()

    def devices_of(self, worker: str) -> set[str]:
        """The devices that belong to a worker."""
        return {serial for serial, owner in self._owners.items() if owner == worker}

    def report(self, serial: str) -> DeviceReport | None:
        """What is known of a device; absent when its worker has it no more."""
        owner = self._owners.get(serial)
        if owner is None:
            return None
        worker = self._known(owner)
        report = worker.reports.get(serial)
        if report is None or report.state is DeviceState.ABSENT or worker.lists(serial):
            return report
        return _as_absent(report, f"worker {owner} has it no more")

    def free_devices(self, at: float) -> Iterator[tuple[str, DeviceReport]]:
        """The devices that seem to be free, with their workers: as their last reports say."""
        for worker in self._workers.values():
            state = worker.state
            if state is None or self.health(worker.name, at) is not Health.READY:
                continue
            listed = set(state.serials)
            for serial, report in worker.reports.items():
                if (
                    report.state is DeviceState.READY
                    and report.reservation is None
                    and report.session == state.session
                    and serial in listed
                    and self._owners.get(serial) == worker.name
                ):
                    yield worker.name, report

    def all_answered(self, at: float) -> bool:
        """Whether every worker of which we know has answered us, or had time to."""
        return all(
            self.health(worker.name, at) is not Health.UNKNOWN
            for worker in self._workers.values()
            if worker.state is not None
        )

    def _is_expected(self, known: Worker | None, at: float) -> bool:
        """Whether a worker had time enough to answer."""
        if known is not None and at < known.expected_from:
            return False
        heard = known is not None and known.state and known.echoed_at >= self._connected_at
        return bool(heard) or at >= self._connected_at + RECONNECT_MAX + self._stale_after

    def _known(self, name: str) -> Worker:
        known = self._workers.get(name)
        if known is None:
            known = self._workers[name] = Worker(name)
        return known

    def _assign_owner(self, serial: str) -> None:
        """Find out whose device it is: whoever had it keeps it for as long as it has it."""
        owner = self._owners.get(serial)
        if owner is not None and self._known(owner).owns(serial):
            return
        claimants = sorted(w.name for w in self._workers.values() if w.owns(serial))
        if claimants:
            self._owners[serial] = claimants[0]
        elif owner is None:
            reporters = sorted(w.name for w in self._workers.values() if serial in w.reports)
            if reporters:
                self._owners[serial] = reporters[0]


def without_progress(report: DeviceReport | None) -> DeviceReport | None:
    """A report without its progress, which changes all the time and decides nothing."""
    return None if report is None else report.model_copy(update={"progress": None})


def _as_absent(report: DeviceReport, reason: str) -> DeviceReport:
    return report.model_copy(
        update={"state": DeviceState.ABSENT, "reason": reason, "progress": None}
    )
