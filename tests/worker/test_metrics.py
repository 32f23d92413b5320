"""What a worker tells Prometheus: what it counts, what it looks at, and how much that can be."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from icebus.schemas.components import WorkerPhase
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import MeasurementFailed
from icebus.schemas.kinds.pulsecount import PulseCountResult
from icebus.schemas.measuring import Failure
from icebus.worker.device.device_report import DeviceStatus
from icebus.worker.metrics import counting
from icebus.worker.metrics.collector import WorkerCollector
from icebus.worker.metrics.counting import Counting
from icebus.worker.metrics.facts import WorkerFacts
from icebus.worker.metrics.observer import Step
from icebus.worker.states import Hold

if TYPE_CHECKING:
    from tests.worker.device_harness import DeviceHarness

EVALUATIONS = "icebus_worker_evaluations_total"
PHASES = "icebus_worker_evaluation_phase_seconds"
NOW = datetime.now(UTC)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry(auto_describe=True)


@pytest.fixture
def counted(registry: CollectorRegistry) -> Counting:
    return Counting(registry, ["pulsecount"])


def result(evaluation: str = "e1", **fields: object) -> PulseCountResult:
    return PulseCountResult.model_validate(
        {
            "serial": "S1",
            "evaluation": evaluation,
            "batch": "b",
            "bitstream": "a.bin",
            "sha256": "0" * 64,
            "at": NOW,
            "pulses": 1,
            "exact": True,
            "upload": 0.1,
            "window": 1.5,
            **fields,
        }
    )


def failure() -> Failure:
    told = result().model_dump(include=set(Failure.model_fields))
    return Failure(**told, error=MeasurementFailed("no report"))


def test_given_outcomes_then_they_are_counted_by_kind_cause_and_board(
    registry: CollectorRegistry, counted: Counting
) -> None:
    assert registry.get_sample_value(EVALUATIONS, {"kind": "pulsecount", "outcome": "result"}) == 0

    counted.evaluated("S1", "pulsecount", result())
    counted.evaluated("S1", "pulsecount", failure())

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value(EVALUATIONS, kind="pulsecount", outcome="result") == 1
    assert value(EVALUATIONS, kind="pulsecount", outcome="measurement_failed") == 1
    assert value("icebus_worker_board_evaluations_total", serial="S1", outcome="failure") == 1
    assert value("icebus_worker_board_busy_seconds_total", serial="S1") == 1.5


def test_given_a_result_then_each_of_its_parts_that_is_known_is_observed(
    registry: CollectorRegistry, counted: Counting
) -> None:
    counted.evaluated("S1", "pulsecount", result(queued=2.0, waited=0.25, configured=0.5))
    counted.evaluated("S1", "pulsecount", result("e2"))
    counted.acknowledged(["e1", "e1", "unknown"])

    def observed(phase: str) -> tuple[float | None, float | None]:
        labels = {"kind": "pulsecount", "phase": phase}
        sums = registry.get_sample_value(f"{PHASES}_sum", labels)
        return registry.get_sample_value(f"{PHASES}_count", labels), sums

    assert observed("queued") == (1, 2.0)
    assert observed("upload") == (2, 0.2)
    assert observed("waiting") == (1, 0.25)
    assert observed("configuring") == (1, 0.5)
    assert observed("measuring") == (2, 1.0 + 1.5)
    assert observed("delivery")[0] == 1


def test_given_more_boards_than_a_worker_has_then_the_others_share_a_series(
    registry: CollectorRegistry, counted: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "SERIALS", 2)
    for serial in ("A", "B", "C", "D", "A"):
        counted.failed(serial)

    [failures] = [m for m in registry.collect() if m.name == "icebus_worker_board_failures"]
    told = {s.labels["serial"]: s.value for s in failures.samples if s.name.endswith("_total")}
    assert told == {"A": 2, "B": 1, "other": 2}


def test_given_clients_that_never_acknowledge_then_what_is_remembered_is_bounded(
    counted: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "UNACKNOWLEDGED", 10)
    for number in range(50):
        counted.evaluated("S1", "pulsecount", result(f"e{number}"))

    assert len(counted._had) == 10


def test_given_a_device_that_is_observed_when_it_measures_then_that_is_counted(
    registry: CollectorRegistry, counted: Counting, make_harness: Callable[..., DeviceHarness]
) -> None:
    device = make_harness(observer=counted)
    device.serve()
    [evaluation] = device.evaluate(7)
    device.board.measure(2000)
    [came] = device.recorder.wait_events("results")
    device.invoke("acknowledge", evaluations=[evaluation])
    device.on_loop(lambda: device.device.fail("a test"))

    assert came.queued is not None
    assert came.queued < 10
    labels = {"kind": "pulsecount", "outcome": "result"}
    assert registry.get_sample_value(EVALUATIONS, labels) == 1
    delivered = {"kind": "pulsecount", "phase": "delivery"}
    assert registry.get_sample_value(f"{PHASES}_count", delivered) == 1
    assert registry.get_sample_value("icebus_worker_board_failures_total", {"serial": "S1"}) == 1


def test_given_a_board_that_fails_again_and_again_then_what_is_tried_is_counted(
    registry: CollectorRegistry, counted: Counting, make_harness: Callable[..., DeviceHarness]
) -> None:
    device = make_harness(observer=counted)
    device.be_ready()
    for _ in range(2):
        device.on_loop(lambda: device.device.fail("a test"))

    def steps(step: Step) -> float | None:
        return registry.get_sample_value("icebus_worker_board_steps_total", {"step": step.value})

    assert steps(Step.REBOOT) == 1
    assert steps(Step.FLASH) == 0


def test_given_a_worker_then_its_boards_and_journals_are_told(
    registry: CollectorRegistry, tmp_path: Path
) -> None:
    (tmp_path / "S1.sqlite").write_bytes(b"x" * 100)
    serving = DeviceStatus(DeviceState.SERVING, Hold("r", "alice"), "pulsecount", load=3)
    facts = WorkerFacts(
        name="w1",
        phase=WorkerPhase.READY,
        connected=True,
        heartbeat_age=0.5,
        boards={"S1": serving, "S2": DeviceStatus(DeviceState.BROKEN, reason="no report")},
        own_ends=1e9,
    )
    registry.register(WorkerCollector(lambda: facts, tmp_path))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"icebus_worker_{name}", labels)

    assert value("boards", state="serving") == 1
    assert value("boards", state="broken") == 1
    assert value("boards", state="ready") == 0
    assert value("boards_serving", kind="pulsecount") == 1
    assert value("board_usable", serial="S1") == 1
    assert value("board_usable", serial="S2") == 0
    assert value("queued_evaluations") == 3
    assert value("journal_bytes") == 100
    assert value("phase", phase="ready") == 1
    assert value("phase", phase="lost") == 0
    assert value("broker_connected") == 1
    assert value("heartbeat_age_seconds") == 0.5
    assert value("certificate_end_timestamp_seconds", certificate="own") == 1e9
    assert value("certificate_end_timestamp_seconds", certificate="broker") is None


def test_given_a_worker_that_has_heard_nothing_then_no_age_is_made_up(
    registry: CollectorRegistry, tmp_path: Path
) -> None:
    facts = WorkerFacts("w1", WorkerPhase.INIT, connected=False, heartbeat_age=None, boards={})
    registry.register(WorkerCollector(lambda: facts, tmp_path / "not there yet"))

    assert registry.get_sample_value("icebus_worker_heartbeat_age_seconds") is None
    assert registry.get_sample_value("icebus_worker_journal_bytes") == 0
