"""A device with a board that says exactly what the test wants, on a real serial port."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from tests.worker.device_harness import HOLD
from tests.worker.scripted_board import SIZE

from icebus.schemas.boards import pulse_count_text as text
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import DeviceNotHeld, DeviceNotServing, InvalidRequest, QueueFull
from icebus.schemas.files import File
from icebus.schemas.measuring import QUEUE_CAPACITY
from icebus.worker.device import recovery
from icebus.worker.device.journal import Journal
from icebus.worker.firmware.pulse_count import _firmware
from icebus.worker.states import Hold
from icebus.worker.states.core import testing, via_bootloader
from icebus.worker.states.measuring import _state

if TYPE_CHECKING:
    from tests.worker.conftest import MakeDeviceHarness
    from tests.worker.device_harness import DeviceHarness

pytestmark = pytest.mark.timeout(60)


# --- from plug to serving -----------------------------------------------------------------------


def test_given_a_board_when_plugged_then_it_is_tested_before_it_is_ready(
    ready: DeviceHarness,
) -> None:
    assert ready.recorder.reports[-1].firmware == "pulse_count"
    assert ready.recorder.states == [DeviceState.TESTING, DeviceState.READY]


def test_given_a_reservation_when_ready_then_it_serves_at_once(ready: DeviceHarness) -> None:
    ready.desire(HOLD)
    report = ready.recorder.wait_state(DeviceState.SERVING)
    assert (report.reservation, report.user, report.generation) == ("r1", "alice", 1)


def test_given_a_board_that_measures_for_a_dead_host_then_that_report_is_nobodys(
    harness: DeviceHarness, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    monkeypatch.setattr(testing, "LISTEN", 10.0)
    harness.desire(HOLD)
    harness.plug()
    harness.recorder.wait_state(DeviceState.PREPARING)
    eventually(lambda: harness.device.port is not None)
    harness.board.report(4711)
    harness.board.go_idle()
    harness.recorder.wait_state(DeviceState.SERVING)
    evaluation = harness.evaluate(1)[0]
    harness.board.measure(12)
    (result,) = harness.recorder.wait_events("results")
    assert (result.evaluation, result.pulses) == (evaluation, 12)


def test_given_a_silent_board_then_after_the_whole_recovery_it_is_broken_with_a_reason(
    harness: DeviceHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_firmware, "ANSWER", 0.05)
    monkeypatch.setattr(via_bootloader, "BOOTLOADER_DEADLINE", 0.05)
    harness.plug()
    harness.recorder.wait_state(DeviceState.BROKEN)
    assert harness.recorder.states == [
        DeviceState.TESTING,
        DeviceState.FLASHING,
        DeviceState.BROKEN,
    ]
    assert harness.recorder.reports[-1].reason


def test_given_a_broken_board_when_its_pause_is_over_then_it_is_tried_again(
    harness: DeviceHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_firmware, "ANSWER", 0.05)
    monkeypatch.setattr(via_bootloader, "BOOTLOADER_DEADLINE", 0.05)
    monkeypatch.setattr(recovery, "REST_FIRST", 0.1)
    harness.plug()
    harness.recorder.wait_state(DeviceState.BROKEN)
    monkeypatch.setattr(_firmware, "ANSWER", 10.0)
    harness.recorder.wait(lambda: harness.recorder.states[-1] is DeviceState.TESTING, "another try")
    harness.answer_test()
    harness.recorder.wait_state(DeviceState.READY)


def test_given_a_board_that_only_new_hardware_can_help_when_replugged_then_it_is_tested_anew(
    harness: DeviceHarness,
) -> None:
    harness.desire(HOLD, kind="nosuchkind")
    harness.plug()
    harness.pass_test()
    assert "nosuchkind" in harness.recorder.wait_state(DeviceState.BROKEN).reason
    harness.device.unplug()
    harness.recorder.wait_state(DeviceState.ABSENT)
    mark = len(harness.recorder.reports)
    harness.replace()
    harness.plug()
    harness.pass_test()
    harness.recorder.wait_state(DeviceState.BROKEN, mark)


def test_given_two_boards_of_one_serial_when_both_go_then_one_that_comes_back_works(
    ready: DeviceHarness,
) -> None:
    ready.device.set_conflict("2 boards show the serial S1; unplug one")
    ready.recorder.wait_state(DeviceState.BROKEN)
    ready.device.unplug()
    ready.device.set_conflict("")
    ready.recorder.wait_state(DeviceState.ABSENT)
    ready.replace()
    ready.be_ready()


def test_given_two_boards_of_one_serial_from_the_start_then_the_device_is_broken_with_that_reason(
    harness: DeviceHarness,
) -> None:
    reason = "2 boards show the serial S1; unplug one"
    harness.device.set_conflict(reason)
    assert harness.recorder.wait_state(DeviceState.BROKEN).reason == reason
    harness.device.set_conflict("")
    harness.be_ready()


# --- queue, reservations, stop ------------------------------------------------------------------


def test_given_a_full_queue_then_nothing_of_a_call_is_accepted(
    serving: DeviceHarness, make_file: Callable[..., File]
) -> None:
    serving.evaluate(*range(1, 61))
    files = [make_file(bytes(SIZE)) for _ in range(5)]
    with pytest.raises(QueueFull) as refusal:
        serving.invoke("evaluate", bitstreams=files, validate=False)
    assert refusal.value.details == {"capacity": QUEUE_CAPACITY, "depth": 60}
    status = serving.invoke("status")
    assert isinstance(status, dict)
    assert (status["queued"], status["unacknowledged"]) == (59, 0)
    assert serving.device.status.load == 60


def test_given_the_same_evaluation_twice_then_it_is_measured_once_and_its_outcome_repeated(
    serving: DeviceHarness, one_evaluation: dict[str, Any]
) -> None:
    serving.invoke("evaluate", **one_evaluation)
    serving.invoke("evaluate", **one_evaluation)
    serving.board.measure(5)
    serving.recorder.wait_events("results")
    serving.invoke("evaluate", **one_evaluation)
    first, second = serving.recorder.wait_events("results", 2)
    assert first == second
    assert serving.board.pending(0.05) == 0
    assert serving.invoke("acknowledge", evaluations=["e1"]) == {"forgotten": 1}


def test_given_one_id_for_two_bitstreams_then_the_call_is_refused(
    serving: DeviceHarness, make_file: Callable[..., File]
) -> None:
    twice = [make_file(bytes(SIZE), "e1"), make_file(b"\1" * SIZE, "e1")]
    with pytest.raises(InvalidRequest):
        serving.invoke("evaluate", bitstreams=twice, validate=False)


def test_given_annotations_without_measure_then_they_are_refused_before_they_are_accepted(
    serving: DeviceHarness, make_file: Callable[..., File]
) -> None:
    # They come back with the outcome, which must fit into a message of its own.
    file = make_file(bytes(SIZE), "e1", annotations={"much": ["x" * 1000] * 1000})
    with pytest.raises(InvalidRequest):
        serving.invoke("evaluate", bitstreams=[file], validate=False)
    status = serving.invoke("status")
    assert isinstance(status, dict)
    assert status["queued"] == 0


def test_given_somebody_elses_hold_then_a_call_is_refused(serving: DeviceHarness) -> None:
    with pytest.raises(DeviceNotHeld):
        serving.device.invoke(Hold("r1", "bob"), "status", {}).result(5)


def test_given_a_device_that_does_not_serve_then_a_call_says_so(harness: DeviceHarness) -> None:
    with pytest.raises(DeviceNotServing):
        harness.device.invoke(HOLD, "status", {}).result(5)


def test_given_an_idle_device_when_released_then_it_is_ready_without_a_test(
    serving: DeviceHarness,
) -> None:
    mark = len(serving.recorder.reports)
    serving.desire(None)
    serving.recorder.wait_state(DeviceState.READY, mark)
    assert {r.state for r in serving.recorder.reports[mark:]} == {DeviceState.READY}


def test_given_a_measuring_device_when_released_then_it_comes_to_rest_first(
    serving: DeviceHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing, "LISTEN", 30.0)
    evaluations = serving.evaluate(1, 2)
    serving.board.receive()
    mark = len(serving.recorder.reports)
    serving.desire(None)
    failures = serving.recorder.wait_events("failures", 2)
    assert [f.evaluation for f in failures] == evaluations
    assert {f.error.code for f in failures} == {"reservation_ended"}
    serving.recorder.wait_state(DeviceState.RELEASING, mark)
    serving.board.report(1)
    serving.board.go_idle()
    serving.recorder.wait_state(DeviceState.READY, mark)
    assert serving.recorder.named("results") == []


def test_given_a_board_that_never_saw_the_transfer_when_released_then_it_is_not_waited_for_long(
    serving: DeviceHarness,
) -> None:
    serving.evaluate(1)
    serving.board.pending(0.02)  # taken by the line, lost on the way to the board
    serving.desire(None)
    serving.recorder.wait_state(DeviceState.RELEASING)
    serving.board.pending(0.01)
    serving.pass_test()
    serving.recorder.wait_state(DeviceState.READY)


def test_given_the_next_reservation_at_once_then_each_has_a_stream_of_events_of_its_own(
    serving: DeviceHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing, "LISTEN", 30.0)
    serving.evaluate(1, 2)
    serving.board.measure(1)
    serving.recorder.wait_events("results")
    serving.board.receive()
    serving.desire(Hold("r2", "bob"))
    serving.board.report(2)
    serving.board.go_idle()
    serving.recorder.wait(lambda: serving.device.status.hold == Hold("r2", "bob"))
    serving.evaluate(3, batch="b2")
    serving.board.measure(3)
    serving.recorder.wait_events("results", 2)
    for hold in (HOLD, Hold("r2", "bob")):
        sequence = [number for who, _, number, _ in serving.recorder.events if who == hold]
        assert sequence == list(range(1, len(sequence) + 1))


def test_given_a_lower_generation_then_it_is_ignored(
    serving: DeviceHarness, make_desired: Callable[..., Any]
) -> None:
    serving.device.desire(make_desired("S1", 0))
    serving.invoke("status")


def test_given_evaluations_when_stopped_then_they_fail_and_no_descriptor_is_left(
    serving: DeviceHarness,
) -> None:
    from icebus.schemas.deadline import Deadline

    evaluations = serving.evaluate(1, 2)
    serving.board.take(10)
    serving.device.stop()
    assert serving.loop.stop(Deadline.after(5))
    failures = serving.recorder.wait_events("failures", 2)
    assert {f.evaluation for f in failures} == set(evaluations)
    assert {f.error.code for f in failures} == {"worker_lost"}


def test_given_accepted_evaluations_when_the_worker_dies_then_its_next_run_fails_them_once(
    make_harness: MakeDeviceHarness, make_file: Callable[..., File]
) -> None:
    harness = make_harness()
    # What a killed process leaves behind: one evaluation without, and one with an outcome.
    harness.serve()
    measured, lost = harness.evaluate(1, 2)
    harness.board.measure(11)
    harness.recorder.wait_events("results")
    copy = make_harness("S2")
    source = Journal(harness.directory / "S1.sqlite")
    entries = source.without_outcome("r1")
    done = source.outcomes("r1")
    source.close()
    journal = Journal(harness.directory / "S2.sqlite")
    journal.accept("r1", [(measured, entries[0]), (lost, entries[0])])
    journal.write_outcome("r1", measured, done[0].event, done[0].outcome)
    journal.close()
    copy.serve()
    (result,) = copy.recorder.wait_events("results")
    (failure,) = copy.recorder.wait_events("failures")
    assert (result.evaluation, result.pulses) == (measured, 11)
    assert (failure.evaluation, failure.error.code) == (lost, "worker_restarted")


def test_given_a_batch_of_which_more_was_to_come_when_the_device_is_released_then_it_is_finished(
    serving: DeviceHarness,
) -> None:
    serving.evaluate(1, 2, more=True)
    serving.board.measure(11)
    serving.recorder.wait_events("results")
    serving.desire(None)
    (finished,) = serving.recorder.wait_events("finished")
    assert (finished.batch, finished.results, finished.failures) == ("b", 1, 1)
    assert serving.recorder.events[-1][1] == "finished", "nothing of a batch comes after its end"


def test_given_a_journal_of_the_version_before_then_its_outcomes_get_the_device_they_lack(
    harness: DeviceHarness,
) -> None:
    described = {"batch": "b", "bitstream": "a.bin", "sha256": "0" * 64, "at": "2026-01-01T00:00Z"}
    result = {"pulses": 11, "exact": True, "upload": 0.1, "window": 1.0}
    journal = Journal(harness.directory / "S1.sqlite")
    for evaluation in ("measured", "lost"):
        entry = json.dumps({"evaluation": evaluation, **described})
        journal.accept("r1", [(evaluation, entry)])
    outcome = json.dumps({"evaluation": "measured", **described, **result})
    journal.write_outcome("r1", "measured", "results", outcome)
    journal.close()
    harness.serve()
    (told,) = harness.recorder.wait_events("results")
    (failure,) = harness.recorder.wait_events("failures")
    assert (told.evaluation, told.serial, told.pulses) == ("measured", "S1", 11)
    assert (failure.evaluation, failure.serial) == ("lost", "S1")


def test_given_arguments_that_the_kind_does_not_know_then_the_call_is_refused(
    serving: DeviceHarness, one_evaluation: dict[str, Any]
) -> None:
    serving.invoke("evaluate", **one_evaluation, args={})
    with pytest.raises(InvalidRequest, match="repeats"):
        serving.invoke("evaluate", **one_evaluation, args={"repeats": 2})


# --- an orderly end -------------------------------------------------------------------------------


def test_given_evaluations_when_told_to_finish_then_that_on_the_board_is_measured_and_the_rest_fail(
    serving: DeviceHarness,
) -> None:
    measured, *waiting = serving.evaluate(1, 2, 3)
    serving.board.receive()
    done = serving.device.finish()
    failures = serving.recorder.wait_events("failures", 2)
    assert [failure.evaluation for failure in failures] == waiting
    assert {failure.error.code for failure in failures} == {"worker_lost"}
    assert not done.done()
    serving.board.report(12)
    serving.board.go_idle()
    (result,) = serving.recorder.wait_events("results")
    assert (result.evaluation, result.pulses) == (measured, 12)
    done.result(10)
    (finished,) = serving.recorder.wait_events("finished")
    assert (finished.results, finished.failures) == (1, 2)


@pytest.mark.parametrize("how", ["unplugged", "idle", "not serving"])
def test_given_nothing_to_finish_then_it_ends_at_once(harness: DeviceHarness, how: str) -> None:
    if how != "not serving":
        harness.serve()
    if how == "unplugged":
        harness.evaluate(1)
        harness.board.take(10)
    done = harness.device.finish()
    if how == "unplugged":
        harness.board.close()
        (failure,) = harness.recorder.wait_events("failures")
        assert failure.error.code == "device_unplugged"
    done.result(10)


def test_given_measurements_that_all_fail_then_the_board_is_probed(
    serving: DeviceHarness,
) -> None:
    serving.evaluate(*range(1, _state.FAILURES_IN_A_ROW + 2))
    for _ in range(_state.FAILURES_IN_A_ROW):
        serving.board.receive()
        serving.board.say(text.WAITING)
    report = serving.recorder.wait_state(DeviceState.PREPARING, len(serving.recorder.reports) - 1)
    assert "3 measurements in a row failed; reopening its port (1st try)" in report.reason
