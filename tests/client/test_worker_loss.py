"""How long a worker's loss explains why its boards are said to have failed."""

from __future__ import annotations

from typing import Any

import pytest
from tests.connections import connect, eventually, inbox

from icebus.broker.embedded import EmbeddedBroker
from icebus.bus import _bus
from icebus.client._connection import worker_loss
from icebus.client._connection.worker_loss import Workers
from icebus.schemas.components import WorkerPhase, WorkerState
from icebus.schemas.deadline import Deadline
from icebus.schemas.liveness import RETURN_TIME
from icebus.schemas.topics import WORKER_STATE

__all__ = ["connect", "eventually", "inbox"]

TOPIC = WORKER_STATE(worker="w1")


class Clock:
    """A monotonic clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(worker_loss, "time", clock)
    monkeypatch.setattr(_bus, "time", clock)
    return clock


def state(phase: WorkerPhase) -> WorkerState:
    return WorkerState(state=phase, session="s1")


def test_given_a_loss_when_the_broker_was_away_meanwhile_then_it_still_explains(
    broker: EmbeddedBroker, connect: Any, eventually: Any, clock: Clock
) -> None:
    worker, bus = connect("w1"), connect("alice")
    workers = Workers(bus)
    workers.watch("w1")
    clock.now += 2 * RETURN_TIME
    worker.publish(TOPIC, state(WorkerPhase.READY))
    eventually(lambda: workers.session("w1"))
    worker.publish(TOPIC, state(WorkerPhase.LOST))
    worker.publish(TOPIC, state(WorkerPhase.READY))
    eventually(lambda: workers.recent_loss("w1") and workers.problem("w1") is None)
    clock.now += 2 * RETURN_TIME
    assert workers.recent_loss("w1") is None
    broker.stop(Deadline.after(5))
    eventually(lambda: not bus.connected)
    broker.start(Deadline.after(5))
    eventually(lambda: bus.connected)
    # What control had to say of it comes only now.
    assert workers.recent_loss("w1") is not None
    clock.now += 2 * RETURN_TIME
    assert workers.recent_loss("w1") is None
