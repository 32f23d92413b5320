"""What control knows of workers from the bus: states, echoes, kinds and reports. In memory.

Moments here are of the monotonic clock, so that setting the time makes nobody stale.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Iterator

from icebus.bus import RECONNECT_MAX
from icebus.control.decide.ownership import RELEASE_AFTER, Claim, decide_owner
from icebus.control.watch.kinds import Kind, KindLookup
from icebus.control.watch.owners import Owners
from icebus.control.watch.worker import DEVICES, Worker, as_absent, without_progress
from icebus.schemas.components import WorkerHeartbeat, WorkerState
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.liveness import (
    GONE,
    RETURN_TIME,
    STALE_AFTER,
    Health,
    health,
    is_gone,
    is_late,
    stale_after,
)

log = logging.getLogger(__name__)

LONGEST_PAUSE = 1.5
"""Heartbeats without a look at the clock after which it was us who stood still."""


class Workers:
    """All workers and their devices.

    Args:
        interval: seconds between heartbeats.
        release_after: seconds after which a worker that is away has let go of its devices.
    """

    def __init__(self, interval: float, release_after: float = RELEASE_AFTER) -> None:
        self._stale_after = stale_after(interval)
        self._longest_pause = LONGEST_PAUSE * interval
        self._clock_read_at = math.inf
        self._connected_at = math.inf
        self._sent: dict[tuple[str, int], float] = {}
        self._workers: dict[str, Worker] = {}
        self._owners = Owners(release_after)
        self._reporters: dict[str, set[str]] = {}
        self._left_behind: set[str] = set()

    # --- what is heard ------------------------------------------------------------------------

    def restore(
        self,
        serial: str,
        worker: str,
        report: DeviceReport,
        claimed_by: Collection[str] = (),
        at: float = 0.0,
    ) -> None:
        """Take over what the database recorded of a device before we heard of it."""
        self._known(worker).reports.setdefault(serial, report)
        self._reporters.setdefault(serial, set()).add(worker)
        if self._owners.of(serial) is None:
            self._owners.restore(serial, worker, claimed_by, at)

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
            worker.left_at += pause

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
        if state is None:
            self.retire(worker, at)
            return False
        known = self._known(worker)
        before = known.state
        if is_late(before, state):
            return False
        known.state, known.listed = state, frozenset(state.serials)
        if is_gone(state):
            known.gone_at = at
            if before is None or not is_gone(before):
                known.left_at = at
        new = before is None or before.session != state.session
        if new or before is None or is_gone(before):
            known.expected_from = at + self._stale_after
        for serial in known.reports:
            self.settle(serial, at)
        return new

    def on_report(self, worker: str, serial: str, report: DeviceReport | None, at: float) -> bool:
        """A worker reported on a device, or forgot it; returns whether anything that counts did."""
        known = self._workers.get(worker)
        before = None if known is None else known.reports.get(serial)
        if report is None:
            if before is None:
                return False
            report = as_absent(before, "removed")
        known = self._known(worker)
        if not known.takes(serial):
            log.warning(
                "worker %s reports on more than %d devices: the others are not minded; if it has "
                "so many, have several workers share them",
                worker,
                DEVICES,
                extra={"subject": worker},
            )
            return False
        known.reports[serial] = report
        self._reporters.setdefault(serial, set()).add(worker)
        changed = self.settle(serial, at)
        return changed or without_progress(before) != without_progress(report)

    def retire(self, worker: str, at: float) -> None:
        """Know nothing of a worker any more; its devices are whose else they are, or nobody's."""
        known = self._workers.pop(worker, None)
        for serial in () if known is None else known.reports:
            self._left_behind.add(serial)
            reporters = self._reporters.get(serial, set())
            reporters.discard(worker)
            if not reporters:
                self._reporters.pop(serial, None)
            self._owners.withdraw(serial, worker)
            self.settle(serial, at)

    def set_owner(self, serial: str, owner: str | None, at: float) -> None:
        """Take over from the database whose device it is: another control may have decided so."""
        if owner != self._owners.of(serial):
            self._owners.assign(serial, owner)
            self.settle(serial, at)

    def settle(self, serial: str, at: float) -> bool:
        """Find out whose device it is; returns whether that, or who else claims it, changed."""
        if self._reporters.get(serial) == {self._owners.of(serial)} and not self.claimants(serial):
            return False
        return self._owners.settle(serial, self._claims(serial, at), at)

    def settle_contested(self, at: float) -> set[str]:
        """Time has gone by: the devices of which the owner, or who else claims them, changed.

        Those of workers that were retired since are among them.
        """
        changed, self._left_behind = self._left_behind, set()
        contested = {serial for serial, names in self._reporters.items() if len(names) > 1}
        contested.update(self._owners.claimed())
        return changed | {serial for serial in contested if self.settle(serial, at)}

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

    def away(self, worker: str, at: float) -> float:
        """Seconds that a worker has been away, as far as we could see; 0 while it may be there."""
        known = self._workers.get(worker)
        if self.health(worker, at) is not Health.GONE:
            return 0.0
        since = self._connected_at
        if known is not None:
            since = max(since, known.fresh_until, known.expected_from)
            if known.state is not None and is_gone(known.state):
                since = known.left_at
        return max(0.0, at - since)

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
        return self._owners.of(serial)

    def claimants(self, serial: str) -> tuple[str, ...]:
        """The other workers that say, or said just now, that they have a device."""
        return self._owners.claimants(serial)

    def heir(self, serial: str, worker: str, at: float) -> str | None:
        """The worker that a device would belong to if this one had never had it."""
        claims = [each for each in self._claims(serial, at) if each.worker != worker]
        heir = decide_owner(None, claims, 0.0)
        return heir if any(each.worker == heir and each.answers for each in claims) else None

    def serials(self) -> Iterable[str]:
        """All devices ever heard of."""
        return self._owners.serials()

    def devices_of(self, worker: str) -> set[str]:
        """The devices that belong to a worker."""
        return self._owners.of_worker(worker)

    def report(self, serial: str) -> DeviceReport | None:
        """What is known of a device; absent when its worker has it no more."""
        owner = self._owners.of(serial)
        if owner is None:
            return None
        worker = self.get(owner)
        report = worker.reports.get(serial)
        if report is None or report.state is DeviceState.ABSENT or worker.lists(serial):
            return report
        return as_absent(report, f"worker {owner} has it no more")

    def free_devices(self, at: float) -> Iterator[tuple[str, DeviceReport]]:
        """The devices that seem to be free, with their workers: as their last reports say."""
        for worker in self._workers.values():
            state = worker.state
            if state is None or self.health(worker.name, at) is not Health.READY:
                continue
            for serial, report in worker.reports.items():
                if (
                    report.state is DeviceState.READY
                    and report.reservation is None
                    and report.session == state.session
                    and serial in worker.listed
                    and self._owners.of(serial) == worker.name
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

    def _claims(self, serial: str, at: float) -> list[Claim]:
        return [
            Claim(
                name,
                has=worker.has(serial),
                current=worker.state is None or worker.current(serial) is not None,
                answers=self.health(name, at).answers,
                away=self.away(name, at),
            )
            for name in self._reporters.get(serial, ())
            if (worker := self._workers.get(name)) is not None
        ]
