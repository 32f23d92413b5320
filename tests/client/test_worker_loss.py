"""How long a worker's loss explains why its boards are said to have failed."""

from __future__ import annotations

from typing import Any

import pytest
from tests.connections import connect, eventually, inbox

from icebus.broker.embedded import EmbeddedBroker
from icebus.client._connection import worker_loss
from icebus.client._connection.worker_loss import Workers
from icebus.schemas.components import WorkerPhase, WorkerState
from icebus.schemas.deadline import Deadline
from icebus.schemas.topics import WORKER_STATE

__all__ = ["connect", "eventually", "inbox"]

TOPIC = WORKER_STATE(worker="w1")
RETURN_TIME = 0.3


def state(phase: WorkerPhase) -> WorkerState:
    return WorkerState(state=phase, session="s1")


def test_given_a_loss_when_the_broker_was_away_meanwhile_then_it_still_explains(
    broker: EmbeddedBroker,
    connect: Any,
    eventually: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_loss, "RETURN_TIME", RETURN_TIME)
    worker, bus = connect("w1"), connect("alice")
    workers = Workers(bus)
    workers.watch("w1")
    for phase in (WorkerPhase.READY, WorkerPhase.LOST, WorkerPhase.READY):
        worker.publish(TOPIC, state(phase))
    eventually(lambda: workers.session("w1") and workers.problem("w1") is None)
    assert workers.recent_loss("w1") is not None
    eventually(lambda: workers.recent_loss("w1") is None)
    broker.stop(Deadline.after(5))
    eventually(lambda: not bus.connected)
    broker.start(Deadline.after(5))
    # What control had to say of it comes only now.
    eventually(lambda: bus.connected)
    assert workers.recent_loss("w1") is not None
    eventually(lambda: workers.recent_loss("w1") is None)
