"""What control makes of what the bus says of workers, without a bus."""

from __future__ import annotations

import pytest

from icebus.control.watch.workers import Workers
from icebus.schemas.components import WorkerHeartbeat, WorkerPhase, WorkerState
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
