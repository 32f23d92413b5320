"""What control makes of what the bus says of workers, without a bus."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from icebus.control.watch import worker
from icebus.control.watch.workers import Workers
from icebus.schemas.components import WorkerHeartbeat, WorkerPhase, WorkerState
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.liveness import Health


def restarted() -> Workers:
    """A worker that answers, and whose run is the second one."""
    workers = Workers(1.0)
    workers.connected(0.0)
    workers.on_heartbeat("epoch", 0, 0.0)
    for session in ("old", "new"):
        workers.on_state("w", WorkerState(state=WorkerPhase.READY, session=session), 0.0)
    workers.on_echo("w", WorkerHeartbeat(epoch="epoch", sequence=0, session="new"), 0.0)
    assert workers.health("w", 0.0) is Health.READY
    return workers


@pytest.mark.parametrize("said", [WorkerPhase.LOST, WorkerPhase.OFFLINE])
def test_given_a_worker_that_was_restarted_when_its_old_run_ends_then_it_is_still_there(
    said: WorkerPhase,
) -> None:
    workers = restarted()

    new = workers.on_state("w", WorkerState(state=said, session="old"), 0.0)

    assert not new
    assert workers.health("w", 0.0) is Health.READY


@pytest.mark.parametrize("said", [WorkerPhase.LOST, WorkerPhase.OFFLINE])
def test_given_a_worker_that_was_restarted_when_its_new_run_ends_then_it_is_gone(
    said: WorkerPhase,
) -> None:
    workers = restarted()

    workers.on_state("w", WorkerState(state=said, session="new"), 0.0)

    assert workers.health("w", 0.0) is Health.GONE


def report(serial: str, state: DeviceState = DeviceState.READY) -> DeviceReport:
    return DeviceReport(serial=serial, state=state, session="new", since=datetime.now(UTC))


def test_given_a_worker_that_reports_on_more_devices_than_one_has_then_the_rest_is_not_minded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "DEVICES", 3)
    workers = restarted()
    named = [f"D{number}" for number in range(5)]
    state = WorkerState(state=WorkerPhase.READY, session="new", serials=named)
    workers.on_state("w", state, 0.0)
    for number in range(5):
        workers.on_report("w", f"D{number}", report(f"D{number}"), 0.0)
    assert set(workers.serials()) == {"D0", "D1", "D2"}
    assert "w reports on more than" in caplog.text
    workers.on_report("w", "D0", report("D0", DeviceState.ABSENT), 0.0)
    workers.on_report("w", "D4", report("D4"), 0.0)
    assert "D4" in workers.serials(), "one that is gone makes room"


def test_given_a_worker_with_all_the_devices_that_one_may_have_then_to_hear_it_takes_no_time() -> (
    None
):
    workers = restarted()
    serials = [f"E{number:015X}" for number in range(worker.DEVICES)]
    for serial in serials:
        workers.on_report("w", serial, report(serial), 0.0)
    state = WorkerState(state=WorkerPhase.READY, session="new", serials=serials)
    began = time.thread_time()
    workers.on_state("w", state, 0.0)
    for serial in serials:
        workers.on_report("w", serial, report(serial), 0.0)
    assert time.thread_time() - began < 1.0, "a heartbeat waits for it"
