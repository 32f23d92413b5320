"""One worker as the bus shows it, and what follows from its reports alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from icebus.control.watch.kinds import Kind
from icebus.schemas.components import WorkerPhase, WorkerState
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.liveness import lists_all

DEVICES = 2000
"""Of one worker; reports on more are not minded. A rack has a thousand boards at most."""

REMEMBERED = 10_000
"""Devices of one worker that are remembered, those that are gone included."""


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
        left_at: when it was first said to be gone, of one that was never back since.
        kinds: what it offers, by name.
        reports: on its devices, by serial.
        listed: the devices that its state names.
    """

    name: str
    state: WorkerState | None = None
    echoed_session: str = ""
    echoed_at: float = -math.inf
    fresh_until: float = 0.0
    expected_from: float = 0.0
    gone_at: float = -math.inf
    left_at: float = -math.inf
    kinds: dict[str, Kind] = field(default_factory=dict)
    reports: dict[str, DeviceReport] = field(default_factory=dict)
    listed: frozenset[str] = frozenset()

    def current(self, serial: str) -> DeviceReport | None:
        """The report on a device, when this very run of the worker made it."""
        report = self.reports.get(serial)
        if report is None or self.state is None or report.session != self.state.session:
            return None
        return report

    def has(self, serial: str) -> bool:
        """Whether it says that it has that device; of one that is gone, whether it last did."""
        report = self.reports.get(serial)
        return report is not None and report.state is not DeviceState.ABSENT and self.lists(serial)

    def has_now(self, serial: str) -> bool:
        """Whether its present run says that it has that device."""
        return self.current(serial) is not None and self.has(serial)

    def takes(self, serial: str) -> bool:
        """Whether a device is one of those that are minded, of which a worker has so many."""
        if serial in self.reports or len(self.reports) < DEVICES:
            return True
        there = sum(each.state is not DeviceState.ABSENT for each in self.reports.values())
        return there < DEVICES and len(self.reports) < REMEMBERED

    @property
    def drains(self) -> bool:
        """Whether it says that it takes no new reservations."""
        return self.state is not None and self.state.state is WorkerPhase.DRAINING

    def lists(self, serial: str) -> bool:
        """Whether it lists that device; while it starts, its list is still growing."""
        state = self.state
        return state is None or not lists_all(state) or serial in self.listed


def without_progress(report: DeviceReport | None) -> DeviceReport | None:
    """A report without its progress, which changes all the time and decides nothing."""
    return None if report is None else report.model_copy(update={"progress": None})


def as_absent(report: DeviceReport, reason: str) -> DeviceReport:
    """A report on a device that is gone since."""
    return report.model_copy(
        update={"state": DeviceState.ABSENT, "reason": reason, "progress": None}
    )
