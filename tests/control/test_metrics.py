"""What control tells Prometheus: of the farm, of requests, and while it can't be asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from tests.control.fakes import TIMEOUT
from tests.control.harness import Harness

from icebus.broker.embedded import EmbeddedBroker
from icebus.control.metrics import facts
from icebus.control.metrics.collector import ControlCollector
from icebus.control.metrics.counting import Counting
from icebus.control.metrics.facts import FarmFacts
from icebus.control.server import Control
from icebus.control.store.database import Database
from icebus.schemas.database import DatabaseCause
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import UnknownKind

if TYPE_CHECKING:
    from tests.control.conftest import MakeClient, MakeWorker


class StillControl:
    """A control that says of itself what a test wants."""

    id = "main"
    connected = True
    database_trouble: DatabaseCause | None = None
    certificate_ends = (None, 2e9)

    def __init__(self) -> None:
        self.facts: FarmFacts | None = None

    def farm_facts(self) -> FarmFacts | None:
        return self.facts


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry(auto_describe=True)


@pytest.fixture
def still(registry: CollectorRegistry) -> StillControl:
    made = StillControl()
    registry.register(ControlCollector(made))
    return made


@pytest.fixture
def database(migrated: Path, tmp_path: Path) -> Iterator[Database]:
    path = tmp_path / "control.db"
    path.write_bytes(migrated.read_bytes())
    made = Database(f"sqlite:///{path}")
    yield made
    made.close()


@pytest.fixture
def farm(database: Database) -> Harness:
    """Two workers, with two boards and one."""
    harness = Harness(database)
    harness.worker("w1", "A", "B")
    harness.worker("w2", "C")
    return harness


def facts_of(farm: Harness) -> FarmFacts:
    reservations = farm.run(facts.of_reservations)
    return facts.of_workers(farm.workers, farm.at, leading=True, reservations=reservations)


def test_given_a_farm_then_devices_workers_reservations_and_the_queue_are_told(
    farm: Harness, registry: CollectorRegistry, still: StillControl
) -> None:
    made = farm.reserve(count=2)
    farm.reserve(count=3, wait=600)
    farm.wait(seconds=30)
    farm.report("w1", "A", DeviceState.SERVING, kind="pulsecount")
    farm.report("w2", "C", DeviceState.SERVING, kind="made-up")
    farm.introduce("w3")
    for _ in range(8):
        farm.at += 1.0
        farm.beat("w1", "w2")
    farm.lose("w2")
    still.facts = facts_of(farm)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"icebus_control_{name}", labels)

    assert value("leading") == 1
    assert value("devices", state="serving", kind="pulsecount") == 1
    assert value("devices", state="ready", kind="") == 1
    assert value("devices", state="serving", kind="other") == 1
    assert value("workers", state="ready") == 1
    assert value("workers", state="lost") == 1
    assert value("workers", state="unanswering") == 1
    assert value("worker_heartbeat_age_seconds", worker="w1") == 0
    assert value("worker_heartbeat_age_seconds", worker="w3") == 8
    assert value("reservations", state=made.state.value, kind="pulsecount") == 1
    assert value("queue_length") == 1
    assert value("queue_oldest_wait_seconds") == pytest.approx(30, abs=0.1)
    assert value("database_up") == 1
    assert value("certificate_end_timestamp_seconds", certificate="own") == 2e9


def test_given_a_worker_that_makes_up_kinds_then_the_number_of_series_stays(
    farm: Harness,
) -> None:
    stolen = [f"B{number}" for number in range(3 * facts.KINDS)]
    farm.worker("w3", *stolen)
    offered = farm.workers.get("w3").kinds["pulsecount"]
    made_up = {f"a{number}": offered for number in range(3 * facts.KINDS)}
    farm.workers.on_kinds("w3", {"pulsecount": offered, **made_up})
    for number, serial in enumerate(stolen):
        farm.report("w3", serial, DeviceState.SERVING, kind=f"a{number}")
    farm.report("w1", "A", DeviceState.SERVING, kind="pulsecount")
    told = facts_of(farm).devices
    assert len(told) <= facts.KINDS + 3
    assert told["serving", "pulsecount"] == 1
    assert told["serving", "other"] > facts.KINDS


def test_given_a_control_that_is_busy_then_what_was_known_is_told_with_its_age(
    farm: Harness, registry: CollectorRegistry, still: StillControl
) -> None:
    still.facts = facts_of(farm)
    assert b"icebus_control_devices{" in generate_latest(registry)
    still.facts, still.database_trouble = None, DatabaseCause.SILENT

    told = generate_latest(registry)

    assert b"icebus_control_devices{" in told
    assert b"icebus_control_database_up 0.0" in told
    assert registry.get_sample_value("icebus_control_facts_age_seconds") is not None


def test_given_a_database_that_is_away_then_nothing_is_told_of_reservations(
    farm: Harness, registry: CollectorRegistry, still: StillControl
) -> None:
    still.facts = facts.of_workers(farm.workers, farm.at, leading=False, reservations=None)

    told = generate_latest(registry)

    assert b"icebus_control_workers{" in told
    assert b"icebus_control_reservations" not in told
    assert b"icebus_control_queue" not in told


def test_given_operations_that_somebody_makes_up_then_they_are_one_series(
    registry: CollectorRegistry,
) -> None:
    counted = Counting(registry)
    for number in range(100):
        counted.answered(f"made-up-{number}", "unknown_operation", 0.001)
        counted.refused(f"made-up-{number}", "too_many_requests")
    counted.answered("admin/drain", "ok", 0.001)

    def value(operation: str, outcome: str) -> float | None:
        labels = {"operation": operation, "outcome": outcome}
        return registry.get_sample_value("icebus_control_requests_total", labels)

    assert value("other", "unknown_operation") == 100
    assert value("other", "too_many_requests") == 100
    assert value("admin/drain", "ok") == 1


def test_given_a_control_that_serves_then_its_requests_and_its_queue_are_told(
    broker: EmbeddedBroker,
    database: Database,
    registry: CollectorRegistry,
    make_worker: MakeWorker,
    make_client: MakeClient,
) -> None:
    control = Control(broker.address("main"), database, observer=Counting(registry))
    registry.register(ControlCollector(control))
    control.start(Deadline.after(TIMEOUT))
    try:
        make_worker("w1", "A")
        alice = make_client("alice")
        alice.wait_available(1)
        alice.reserve(count=1)
        alice.reserve(count=1, wait=600)
        with pytest.raises(UnknownKind):
            alice.reserve(kind="nothing", count=1)

        def value(name: str, **labels: str) -> float | None:
            return registry.get_sample_value(f"icebus_control_{name}", labels)

        assert value("queue_length") == 1
        assert value("reservations", state="queued", kind="pulsecount") == 1
        assert value("requests_total", operation="reserve", outcome="ok") == 2
        assert value("requests_total", operation="reserve", outcome="unknown_kind") == 1
        assert value("request_duration_seconds_count", operation="reserve") == 3
        assert value("broker_connected") == 1
        assert value("leading") == 1
    finally:
        control.stop(Deadline.after(5))
