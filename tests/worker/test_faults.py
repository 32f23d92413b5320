"""Boards that misbehave, on real serial ports: what their worker does, tells, and comes back from.

All boards of a farm get a fault of their own at once, and are repaired at once; the tests look at
what was reported meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from icebus.schemas.boards.rack import Fault
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.worker.device import next_state, recovery
from icebus.worker.firmware.framed import _firmware as framed_firmware
from icebus.worker.firmware.pulse_count import _firmware, _meter
from icebus.worker.states.core import absent, testing, via_bootloader
from icebus.worker.states.kinds.pulsecount import PulseCount

if TYPE_CHECKING:
    from tests.worker.conftest import MakeFaultyFarm
    from tests.worker.workers import FaultyFarm

pytestmark = pytest.mark.timeout(120)

SHORT_DEADLINES = {
    (testing, "LISTEN"): 0.02,
    (_firmware, "ANSWER"): 2.0,
    (framed_firmware, "ANSWER"): 0.5,
    # The faults are those of text firmware, which a board is not to be relieved of.
    (PulseCount, "firmware"): ("pulse_count",),
    (next_state, "RECOVERY"): ("default",),
    (_meter, "QUIET"): 0.2,
    (_meter, "UPLOAD_DEADLINE"): 2.0,
    (_meter, "REPORT_DEADLINE"): 2.0,
    (_meter, "RETURN_DEADLINE"): 2.0,
    (via_bootloader, "BOOTLOADER_DEADLINE"): 2.0,
    (via_bootloader, "RESTART_DEADLINE"): 2.0,
    (absent, "REOPEN_AFTER"): 0.1,
    (recovery, "REST_FIRST"): 0.5,
}
"""Deadlines of a worker whose boards need milliseconds."""


@dataclass
class Case:
    """What was reported of one board.

    Attributes:
        outcomes: by evaluation.
        reports: from the fault until it served again.
        events: reasons of its device events.
        afterwards: the outcome of an evaluation when it served again.
    """

    outcomes: dict[str, list[tuple[str, dict[str, Any]]]]
    reports: list[DeviceReport] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    afterwards: str = ""

    @property
    def reasons(self) -> list[str]:
        return [report.reason for report in self.reports]

    @property
    def states(self) -> set[DeviceState]:
        return {report.state for report in self.reports}


@pytest.fixture(scope="module")
def cases(
    tmp_path_factory: pytest.TempPathFactory, make_faulty_farm: MakeFaultyFarm
) -> dict[Fault, Case]:
    """Every fault, from its beginning until the board serves again."""
    directory = tmp_path_factory.mktemp("faulty-farm")
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), value in SHORT_DEADLINES.items():
            patch.setattr(module, name, value)
        with make_faulty_farm(directory, list(Fault)) as faulty:
            return run_cases(faulty)


def run_cases(faulty: FaultyFarm[Fault]) -> dict[Fault, Case]:
    peers = faulty.peers
    peers.reserve(*faulty.serials.values())
    marks = {fault: peers.mark(serial) for fault, serial in faulty.serials.items()}
    events_before = len(peers.device_events)
    faulty.inject_faults()
    outstanding = {
        fault: peers.evaluate(serial, *[faulty.bitstream] * 40)
        for fault, serial in faulty.serials.items()
    }
    peers.desire(faulty.serials[Fault.BOOTLOADER], peers.hold, reboot=1)
    for evaluations in outstanding.values():
        for evaluation in evaluations:
            peers.wait_outcome(evaluation)
    for fault, serial in faulty.serials.items():
        if fault is not Fault.WEDGE:
            peers.wait_since(serial, marks[fault], DeviceState.BROKEN)
    cases = {
        fault: Case({each: peers.outcomes(each) for each in outstanding[fault]})
        for fault in faulty.serials
    }
    faulty.repair_all()
    for fault, serial in faulty.serials.items():
        cases[fault].afterwards = faulty.measure_until_result(serial)
        reports = peers.reports[serial][marks[fault] :]
        cases[fault].reports = [report for report in reports if report is not None]
        cases[fault].events = [
            e.reason for e in peers.device_events[events_before:] if e.serial == serial
        ]
    return cases


each_fault = pytest.mark.parametrize("fault", list(Fault))


@each_fault
def test_given_a_fault_then_every_outstanding_evaluation_has_one_typed_outcome(
    cases: dict[Fault, Case], fault: Fault
) -> None:
    codes = set()
    for outcomes in cases[fault].outcomes.values():
        assert all(outcome == outcomes[0] for outcome in outcomes), "told again, but never changed"
        event, outcome = outcomes[0]
        if event == "failures":
            codes.add(outcome["error"]["code"])
    assert codes <= {"measurement_failed", "device_failed"}
    assert codes or fault is Fault.BOOTLOADER, "a board with a fault measured"


@each_fault
def test_given_a_fault_then_each_step_of_recovery_is_told_with_its_reason(
    cases: dict[Fault, Case], fault: Fault
) -> None:
    steps = ["reopening its port", "rebooting", "reflashing", "resting for"]
    if fault is Fault.BOOTLOADER:
        steps = steps[1:]  # there is no port to open again
    if fault is Fault.WEDGE:
        steps = steps[:2]  # a reboot repairs it
    for told in (cases[fault].reasons, cases[fault].events):
        places = [
            next((n for n, reason in enumerate(told) if step in reason), -1) for step in steps
        ]
        assert places == sorted(places), told
        assert places[0] >= 0, told
    for number, step in enumerate(steps[:3], 1):
        said = f"; {step} ({recovery.ordinal(number)} try)"
        assert [
            reason for reason in cases[fault].reasons if said in reason
        ] or step == "resting for"


@each_fault
def test_given_a_fault_that_lasts_then_the_device_says_when_it_is_looked_at_again(
    cases: dict[Fault, Case], fault: Fault
) -> None:
    broken = [report for report in cases[fault].reports if report.state is DeviceState.BROKEN]
    assert all(report.retry is not None and report.retry > report.since for report in broken)
    assert broken or fault is Fault.WEDGE, "what is wedged is repaired by a reboot"


@each_fault
def test_given_a_fault_that_ends_then_the_device_serves_the_same_reservation_again(
    cases: dict[Fault, Case], fault: Fault
) -> None:
    assert cases[fault].afterwards == "results"


def test_given_a_board_at_work_when_it_comes_back_elsewhere_then_it_serves_there(
    make_faulty_farm: MakeFaultyFarm, tmp_path: Path, quick: None
) -> None:
    with make_faulty_farm(tmp_path, ["moving"]) as faulty:
        serial = faulty.serials["moving"]
        faulty.peers.reserve(serial)
        evaluations = faulty.peers.evaluate(serial, *[faulty.bitstream] * 40)
        faulty.move(serial, "1-2.9")
        for evaluation in evaluations:
            event, outcome = faulty.peers.wait_outcome(evaluation)
            assert event == "results" or outcome["error"]["code"] == "device_unplugged"
        assert faulty.measure_until_result(serial) == "results"
        report = faulty.peers.last(serial)
        assert report is not None
        assert report.port == "1-2.9"


def test_given_a_hub_that_resets_then_64_boards_are_ready_again_and_nothing_leaks(
    make_faulty_farm: MakeFaultyFarm, tmp_path: Path, quick: None, eventually: Callable[..., Any]
) -> None:
    import threading

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with make_faulty_farm(tmp_path, range(64)) as faulty:
        for serial in faulty.serials.values():
            faulty.peers.wait_state(serial, DeviceState.READY)
        faulty.wait_for_helpers()
        threads, opened = set(threading.enumerate()), descriptors()
        for _ in range(2):
            faulty.reset_hub()
        faulty.wait_for_helpers()
        left = {thread.name for thread in set(threading.enumerate()) - threads}
        assert left <= {"icebus-log"}  # which says how often something was logged, and ends
        # A folder that is being looked through is a descriptor for a moment.
        eventually(lambda: descriptors() <= opened, "descriptors to be given back")
