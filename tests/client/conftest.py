"""A scripted control and scripted workers: they speak the real topics, and fail when told to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.client.scripted_control import ScriptedControl
from tests.client.scripted_worker import ScriptedWorker
from tests.connections import connect, eventually

from icebus.broker.embedded import EmbeddedBroker
from icebus.client import PulseCountClient

__all__ = ["connect", "eventually"]


@pytest.fixture(autouse=True)
def _short_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that are lost for good are waited for, but not for seconds."""
    monkeypatch.setattr("icebus.client._evaluating.running.run_state.WORKER_AWAY", 0.5)


@pytest.fixture
def control(broker: EmbeddedBroker) -> Iterator[ScriptedControl]:
    """A scripted control."""
    made = ScriptedControl(broker)
    yield made
    made.close()


@pytest.fixture
def w1(broker: EmbeddedBroker) -> Iterator[ScriptedWorker]:
    """A scripted worker that owns d1, d3, …"""
    made = ScriptedWorker(broker, "w1")
    yield made
    made.close()


@pytest.fixture
def w2(broker: EmbeddedBroker) -> Iterator[ScriptedWorker]:
    """A scripted worker that owns d2, d4, …"""
    made = ScriptedWorker(broker, "w2")
    yield made
    made.close()


@pytest.fixture
def alice(broker: EmbeddedBroker, control: ScriptedControl) -> Iterator[PulseCountClient]:
    """A client."""
    with PulseCountClient(broker.address("alice").url()) as client:
        yield client


@pytest.fixture
def circuits() -> list[Path]:
    """Three valid bitstreams."""
    found = sorted((Path(__file__).parents[2] / "examples" / "circuits").glob("*.bin"))
    assert len(found) >= 3
    return found
