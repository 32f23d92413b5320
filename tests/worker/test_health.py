"""The health of a worker: what is judged."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from icebus.schemas.components import Heartbeat, WorkerHeartbeat, WorkerPhase, WorkerState
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.supervision.health import Severity
from icebus.worker.health import Facts, judge

NOW = 1_800_000_000.0


def state(phase: WorkerPhase = WorkerPhase.READY, **more: Any) -> WorkerState:
    return WorkerState(**{"state": phase, "session": "s1", "serials": ["A", "B"], **more})


def board(serial: str, state: DeviceState = DeviceState.READY, reason: str = "") -> DeviceReport:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    return DeviceReport(serial=serial, state=state, since=since, session="s1", reason=reason)


WELL = Facts(
    name="lab1",
    state=state(),
    heartbeat=Heartbeat(epoch="c1", sequence=7, interval=1.0),
    echo=WorkerHeartbeat(epoch="c1", sequence=7, session="s1"),
    boards={"A": board("A"), "B": board("B")},
    now=NOW,
    installed=NOW - 1,
)


def test_given_a_worker_that_serves_then_it_is_well() -> None:
    assert judge(WELL).severity is Severity.OK
    assert "2 boards: 2 ready" in judge(WELL).line


@pytest.mark.parametrize(
    ("changed", "severity", "says"),
    [
        ({"broker": "no broker answers"}, Severity.CRITICAL, "no broker answers"),
        ({"state": None}, Severity.CRITICAL, "not running"),
        ({"state": state(WorkerPhase.LOST)}, Severity.CRITICAL, "lost its connection"),
        ({"state": state(WorkerPhase.OFFLINE)}, Severity.CRITICAL, "was stopped"),
        ({"state": state(WorkerPhase.INIT)}, Severity.WARNING, "looking for boards"),
        ({"state": state(WorkerPhase.DRAINING, draining="new kernel")}, Severity.WARNING, "new k"),
        ({"heartbeat": None}, Severity.WARNING, "control is silent"),
        ({"echo": None}, Severity.CRITICAL, "hangs"),
        (
            {"echo": WorkerHeartbeat(epoch="c1", sequence=1, session="s1")},
            Severity.CRITICAL,
            "hangs",
        ),
        ({"state": state(serials=[])}, Severity.CRITICAL, "no boards"),
        (
            {"boards": {"A": board("A"), "B": board("B", DeviceState.BROKEN, "silent\x1b[2J")}},
            Severity.WARNING,
            "1 of 2 boards: B broken (silent\\x1b[2J)",
        ),
        (
            {"boards": {s: board(s, DeviceState.ABSENT) for s in "AB"}},
            Severity.CRITICAL,
            "no board is of use",
        ),
        ({"boards": {"A": board("A")}}, Severity.WARNING, "1 board not reported on"),
        ({"own_ends": NOW + 86_400}, Severity.WARNING, "the worker's certificate ends"),
    ],
)
def test_given_something_wrong_then_it_is_said_and_how_bad_it_is(
    changed: dict[str, Any], severity: Severity, says: str
) -> None:
    verdict = judge(replace(WELL, **changed))

    assert verdict.severity is severity
    assert says in verdict.line
