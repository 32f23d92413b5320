"""A device whose port fails: unplugged, closed, or hanging when it is opened."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from icebus.schemas.devices import DeviceState
from icebus.worker.device import board_port, recovery
from icebus.worker.device.helper_threads import MOST_AT_ONCE
from icebus.worker.firmware.pulse_count import _firmware
from icebus.worker.hardware import port
from icebus.worker.states.core import absent, via_bootloader

if TYPE_CHECKING:
    from tests.worker.conftest import MakeDeviceHarness
    from tests.worker.device_harness import DeviceHarness

pytestmark = pytest.mark.timeout(60)


# --- unplugged, or failing ----------------------------------------------------------------------


def test_given_a_transfer_when_unplugged_then_all_fails_and_after_replugging_it_serves(
    serving: DeviceHarness,
) -> None:
    evaluations = serving.evaluate(1, 2, 3)
    serving.board.start(50_000)
    serving.board.close()
    failures = serving.recorder.wait_events("failures", 3)
    assert {f.evaluation for f in failures} == set(evaluations)
    assert {f.error.code for f in failures} == {"device_unplugged"}
    serving.recorder.wait_state(DeviceState.ABSENT)
    serving.device.unplug()
    mark = len(serving.recorder.reports)
    serving.replace()
    serving.plug()
    serving.pass_test()
    serving.recorder.wait_state(DeviceState.SERVING, mark)
    (again,) = serving.evaluate(4, batch="b2")
    serving.board.measure(10)
    serving.recorder.wait(
        lambda: [r for r in serving.recorder.named("results") if r.evaluation == again]
    )


def test_given_a_board_that_may_not_be_used_then_its_report_says_why_until_that_changes(
    harness: DeviceHarness,
) -> None:
    harness.plug(problem="no right to open its port; add a rule")
    report = harness.recorder.wait_state(DeviceState.BROKEN)
    assert (report.reason, report.retry) == ("no right to open its port; add a rule", None)
    assert report.labels == {"hub": "1-1"}
    mark = len(harness.recorder.reports)
    harness.desire(None)
    harness.show(problem="no right to open its port; add a rule")
    harness.show()
    harness.pass_test()
    harness.recorder.wait_state(DeviceState.READY, mark)


def test_given_a_board_in_use_when_its_port_could_not_be_opened_again_then_it_goes_on(
    serving: DeviceHarness,
) -> None:
    serving.show(problem="no right to open its port; add a rule")
    serving.evaluate(1)
    serving.board.measure(10)
    serving.recorder.wait_events("results")
    assert serving.recorder.reports[-1].state is DeviceState.SERVING


def test_given_a_port_that_fails_when_the_board_stays_then_it_is_opened_again(
    serving: DeviceHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(absent, "REOPEN_AFTER", 0.05)
    mark = len(serving.recorder.reports)
    # The port hangs up, and what replaces it has the same name as far as the device knows.
    old = serving.board
    serving.board = type(old)()
    serving.boards.append(serving.board)
    new_path = serving.board.path
    board = serving.device.board
    assert board is not None
    object.__setattr__(board, "tty", new_path)
    old.close()
    serving.recorder.wait_state(DeviceState.ABSENT, mark)
    serving.pass_test()
    serving.recorder.wait_state(DeviceState.SERVING, mark)


def test_given_a_flashing_device_when_its_board_is_gone_for_good_then_it_is_absent(
    harness: DeviceHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_firmware, "ANSWER", 0.05)
    monkeypatch.setattr(via_bootloader, "BOOTLOADER_DEADLINE", 0.3)
    harness.plug()
    harness.recorder.wait_state(DeviceState.FLASHING)
    harness.device.unplug()
    harness.recorder.wait_state(DeviceState.ABSENT)


# --- steps that may block -------------------------------------------------------------------------


class StuckDriver:
    """Opens ports as usual, but for those of one path hangs until it is told to go on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.go_on = threading.Event()
        self.calls = 0

    def connect(self, path: Path) -> Any:
        if path == self.path:
            self.calls += 1
            assert self.go_on.wait(60)
        return CONNECT(path)


CONNECT = port.connect


@pytest.fixture
def stuck(harness: DeviceHarness, monkeypatch: pytest.MonkeyPatch) -> Iterator[StuckDriver]:
    driver = StuckDriver(harness.board.path)
    monkeypatch.setattr(port, "connect", driver.connect)
    monkeypatch.setattr(board_port, "OPEN_DEADLINE", 0.1)
    monkeypatch.setattr(via_bootloader, "BOOTLOADER_DEADLINE", 0.1)
    monkeypatch.setattr(absent, "REOPEN_AFTER", 0.02)
    monkeypatch.setattr(recovery, "REST_FIRST", 0.02)
    yield driver
    driver.go_on.set()


def test_given_a_port_whose_opening_hangs_then_that_device_fails_alone_and_comes_back(
    harness: DeviceHarness, stuck: StuckDriver, make_harness: MakeDeviceHarness
) -> None:
    harness.plug()
    harness.recorder.wait(
        lambda: [r for r in harness.recorder.reports if "did not open" in r.reason], "why"
    )
    other = make_harness("S2", harness.loop)
    other.be_ready()
    harness.recorder.wait_state(DeviceState.QUARANTINED)
    assert stuck.calls <= MOST_AT_ONCE, "each call that hangs keeps a thread"
    stuck.go_on.set()
    mark = len(harness.recorder.reports)
    harness.desire(None)  # control desires something new: it may be repaired
    harness.answer_test()
    harness.recorder.wait_state(DeviceState.READY, mark)


def test_given_a_device_in_its_longest_pause_when_rebooted_by_command_then_its_recovery_begins_anew(
    harness: DeviceHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_firmware, "ANSWER", 0.02)
    monkeypatch.setattr(via_bootloader, "BOOTLOADER_DEADLINE", 0.02)
    monkeypatch.setattr(recovery, "REST_FIRST", 0.01)
    harness.desire(None)
    harness.plug()
    harness.recorder.wait_state(DeviceState.QUARANTINED)
    mark = len(harness.recorder.reports)
    harness.desire(None, reboot=1)
    harness.recorder.wait(lambda: len(harness.recorder.reports) > mark + 1, "the command")
    first, second = (report.reason for report in harness.recorder.reports[mark : mark + 2])
    assert first == "reboot, as an administrator asked"
    assert "(1st try)" in second
