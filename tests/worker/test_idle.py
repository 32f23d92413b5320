"""Boards that nobody uses are looked at; whoever reserves one meanwhile does not notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.schemas.boards import pulse_count_text as text
from icebus.schemas.boards.rack import Fault
from icebus.schemas.devices import DeviceState
from icebus.worker.device import recovery
from icebus.worker.firmware.pulse_count import _firmware, _meter
from icebus.worker.states import Hold
from icebus.worker.states.core import testing
from icebus.worker.states.core.ready import Ready, interval_factor
from icebus.worker.states.kinds.pulsecount import PulseCount

if TYPE_CHECKING:
    from tests.worker.conftest import MakeDeviceHarness, MakeRack, StartWorker
    from tests.worker.device_harness import DeviceHarness
    from tests.worker.peers import Peers
    from tests.worker.scripted_board import ScriptedBoard

pytestmark = pytest.mark.timeout(60)

HOLD = Hold(reservation="r1", user="alice")
SIZE = text.BITSTREAM_SIZE


@pytest.fixture
def idle(make_harness: MakeDeviceHarness) -> DeviceHarness:
    """A device that is ready, and looked at all the time."""
    harness = make_harness(check_every=0.02)
    harness.be_ready()
    return harness


@pytest.fixture
def probed(idle: DeviceHarness, eventually: Callable[..., Any]) -> DeviceHarness:
    """A device whose board is being sent the bytes of a probe."""
    eventually(
        lambda: isinstance(idle.device.state, Ready) and idle.device.state.check_under_way,
        "a probe",
    )
    return idle


def test_given_an_idle_board_that_answers_then_it_is_ready_all_the_time(
    idle: DeviceHarness,
) -> None:
    for _ in range(3):
        assert idle.board.measure(0) == _firmware.BLANK
    assert idle.recorder.states == [DeviceState.TESTING, DeviceState.READY]


class Phase(NamedTuple):
    """How far a probe is when the device is reserved, and what is left of it."""

    before: Callable[[Any], object]
    after: Callable[[Any], object]


def receive_rest(board: ScriptedBoard) -> None:
    board.take(SIZE - 50_000)
    board.say(text.RECEIVED.format(us=1), text.FLASHING)
    end(board)


def end(board: ScriptedBoard) -> None:
    board.report(4711)
    board.go_idle()


PHASES = {
    "before its first byte": Phase(lambda board: None, lambda board: board.measure(4711)),
    "half sent": Phase(lambda board: board.start(50_000), receive_rest),
    "measured": Phase(lambda board: board.receive(), end),
    "in the middle of a word": Phase(
        lambda board: (board.receive(), board.say_bytes(b", pulses: 47")),
        lambda board: (board.say_bytes(b"11\r\n"), board.go_idle()),
    ),
    "reported": Phase(
        lambda board: (board.receive(), board.report(4711)), lambda board: board.go_idle()
    ),
    "never answered": Phase(
        lambda board: board.take(),
        lambda board: board.watchdog(17),
    ),
}


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
def test_given_a_reservation_during_a_probe_then_it_serves_at_once_and_the_answer_is_nobodys(
    probed: DeviceHarness, phase: Phase
) -> None:
    phase.before(probed.board)
    probed.desire(HOLD)
    probed.recorder.wait_state(DeviceState.SERVING)
    (evaluation,) = probed.evaluate(7)
    phase.after(probed.board)
    assert set(probed.board.measure(12)) == {7}
    (result,) = probed.recorder.wait_events("results")
    assert (result.evaluation, result.pulses) == (evaluation, 12)
    assert probed.recorder.named("failures") == []
    assert probed.recorder.states == [DeviceState.TESTING, DeviceState.READY, DeviceState.SERVING]


def test_given_a_probe_that_is_out_of_step_when_reserved_then_the_board_is_tested_first(
    probed: DeviceHarness,
) -> None:
    probed.board.start(50_000)
    probed.watchdog(50_000)
    probed.desire(HOLD)
    probed.answer_test()
    probed.recorder.wait_state(DeviceState.SERVING)
    probed.evaluate(7)
    assert set(probed.board.measure(12)) == {7}
    assert [result.pulses for result in probed.recorder.wait_events("results")] == [12]


def test_given_a_kind_that_takes_no_probe_over_when_reserved_then_the_board_comes_to_rest_first(
    probed: DeviceHarness, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    monkeypatch.setattr(PulseCount, "takes_over", False)
    monkeypatch.setattr(testing, "LISTEN", 30.0)
    probed.board.receive()
    probed.desire(HOLD)
    probed.recorder.wait_state(DeviceState.PREPARING)
    eventually(lambda: probed.device.port is not None)
    end(probed.board)
    probed.recorder.wait_state(DeviceState.SERVING)
    probed.evaluate(7)
    assert set(probed.board.measure(12)) == {7}
    assert [result.pulses for result in probed.recorder.wait_events("results")] == [12]


def test_given_a_reservation_that_ends_within_the_probe_it_began_in_then_the_next_is_served(
    probed: DeviceHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing, "LISTEN", 30.0)
    probed.board.receive()
    probed.desire(HOLD)
    probed.recorder.wait_state(DeviceState.SERVING)
    probed.desire(Hold("r2", "bob"))
    probed.recorder.wait_state(DeviceState.RELEASING)
    end(probed.board)
    probed.recorder.wait(lambda: probed.device.status.hold == Hold("r2", "bob"))
    probed.evaluate(7)
    assert set(probed.board.measure(12)) == {7}


def test_given_a_board_that_dies_in_a_probe_that_was_taken_over_then_it_is_noticed_all_the_same(
    probed: DeviceHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_meter, "TAKEN_OVER_DEADLINE", 0.3)
    probed.board.take()
    probed.desire(HOLD)
    report = probed.recorder.wait_state(DeviceState.PREPARING)
    assert "did not end what it was sent while idle" in report.reason


def test_given_an_idle_board_that_goes_back_to_waiting_without_a_report_then_it_is_tested_anew(
    idle: DeviceHarness,
) -> None:
    idle.board.receive()
    mark = len(idle.recorder.reports)
    idle.board.go_idle()
    report = idle.recorder.wait_state(DeviceState.TESTING, mark)
    assert "while idle, the board went back to waiting without a report" in report.reason
    assert "(1st try)" in report.reason
    idle.pass_test()
    idle.recorder.wait_state(DeviceState.READY, mark)


def test_given_the_default_firmware_then_its_words_are_enough_and_their_absence_is_noticed(
    make_harness: MakeDeviceHarness, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    monkeypatch.setattr(testing, "LISTEN", 30.0)
    harness = make_harness(check_every=0.1)
    harness.plug()
    eventually(lambda: harness.device.port is not None)
    harness.board.say(text.DEFAULT_LINE)
    harness.recorder.wait_state(DeviceState.READY)
    harness.recorder.wait(
        lambda: "while idle, the board said nothing" in harness.recorder.reports[-1].reason, "why"
    )
    assert harness.recorder.states[-1] is DeviceState.TESTING
    assert harness.board.pending() == 0, "it was only listened to"


@given(st.text(min_size=1))
def test_given_any_device_then_it_is_looked_at_about_as_often_as_was_asked_for(name: str) -> None:
    assert 0.5 <= interval_factor(name) < 1.5
    assert interval_factor(name) == interval_factor(name)


def test_given_an_idle_board_that_hangs_when_nobody_asks_then_it_is_found_out_and_comes_back(
    make_rack: MakeRack,
    make_board: Callable[..., Any],
    start_worker: StartWorker,
    peers: Peers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rack = make_rack(make_board(1), make_board(2))
    start_worker(rack, check_every=0.1)
    for serial in ("BOARD1", "BOARD2"):
        peers.wait_state(serial, DeviceState.READY)
    for name in ("UPLOAD_DEADLINE", "REPORT_DEADLINE", "RETURN_DEADLINE"):
        monkeypatch.setattr(_meter, name, 3.0)
    monkeypatch.setattr(_firmware, "ANSWER", 3.0)
    monkeypatch.setattr(recovery, "REST_FIRST", 0.5)
    mark = peers.mark("BOARD1")
    rack.change(lambda board: {"fault": Fault.HANG if board.serial == "BOARD1" else None})
    report = peers.wait_since("BOARD1", mark, DeviceState.TESTING)
    assert "while idle, the board" in report.reason
    rack.change(lambda _: {"fault": None})
    peers.wait_state("BOARD1", DeviceState.READY)
    peers.reserve("BOARD1", "BOARD2")
