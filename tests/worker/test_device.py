"""A device with a board that says exactly what the test wants, on a real serial port."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from icebus.schemas.boards import pulse_count_text as text
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import (
    DeviceNotHeld,
    DeviceNotServing,
    InvalidRequest,
    JournalUnavailable,
    QueueFull,
)
from icebus.schemas.files import File
from icebus.schemas.kinds.pulsecount import PulseCountResult
from icebus.schemas.measuring import QUEUE_CAPACITY
from icebus.worker.device import actor, board_port, recovery
from icebus.worker.device.helper_threads import MOST_AT_ONCE
from icebus.worker.device.journal import Journal
from icebus.worker.firmware.pulse_count import _firmware, _meter
from icebus.worker.hardware import port
from icebus.worker.states import Hold
from icebus.worker.states.core import absent, testing, via_bootloader
from icebus.worker.states.measuring import _outcomes, _state

if TYPE_CHECKING:
    from tests.worker.conftest import DeviceHarness, MakeDeviceHarness

pytestmark = pytest.mark.timeout(60)

HOLD = Hold(reservation="r1", user="alice")
SIZE = text.BITSTREAM_SIZE
RECEIVED = text.RECEIVED.format(us=1)


def value_of(data: bytes) -> int:
    """Which of the test's bitstreams was sent; fails for a mixture of two."""
    assert len(set(data)) == 1, f"bytes of {sorted(set(data))} in one transfer"
    return data[0]


@pytest.fixture
def call(make_file: Callable[..., File]) -> dict[str, Any]:
    """Arguments of one evaluation, which may be sent again."""
    return {"bitstreams": [make_file(b"\5" * SIZE, "e1")], "batch": "b", "validate": False}


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
    harness.board.rest()
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


# --- one measurement ----------------------------------------------------------------------------


def test_given_a_bitstream_when_measured_then_its_count_comes_back(serving: DeviceHarness) -> None:
    (evaluation,) = serving.evaluate(7)
    assert value_of(serving.board.measure(2000)) == 7
    (result,) = serving.recorder.wait_events("results")
    assert (result.evaluation, result.pulses, result.exact) == (evaluation, 2000, True)
    (finished,) = serving.recorder.wait_events("finished")
    assert (finished.batch, finished.results, finished.failures) == ("b", 1, 0)


def test_given_a_report_byte_by_byte_then_no_digit_is_lost(serving: DeviceHarness) -> None:
    serving.evaluate(1)
    serving.board.receive()
    words = f"{text.FLASH_TIMES_PREFIX}init 1, start 2\r\n, pulses: 31995\r\nIDLE\r\n"
    for byte in (words + f"{text.CONNECTED}\r\n{text.WAITING}\r\n").encode():
        serving.board.say_bytes(bytes([byte]))
        time.sleep(0.0005)  # so that the host reads them apart
    (result,) = serving.recorder.wait_events("results")
    assert result.pulses == 31995


def test_given_garbage_between_the_lines_then_the_count_is_still_understood(
    serving: DeviceHarness,
) -> None:
    serving.evaluate(1, 2)
    serving.board.receive()
    serving.board.say_bytes(b"\xff\x00garbage\r\n\r\n\n")
    serving.board.report(5)
    serving.board.say_bytes(b"\x80" * 50_000 + b"\n")
    serving.board.rest()
    serving.board.measure(6)
    assert [r.pulses for r in serving.recorder.wait_events("results", 2)] == [5, 6]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (text.VIRTUAL_EXACT, (True, True, "")),
        (text.VIRTUAL_ESTIMATE + "a loop", (False, True, "a loop")),
        (text.VIRTUAL_CDONE_LOW, (True, False, "the FPGA refused the bitstream (CDONE low)")),
    ],
)
def test_given_a_virtual_board_then_its_remark_goes_with_the_count(
    serving: DeviceHarness, line: str, expected: tuple[bool, bool, str]
) -> None:
    serving.evaluate(1, 2)
    serving.board.receive()
    serving.board.report(3, line)
    serving.board.rest()
    serving.board.measure(4)
    first, second = serving.recorder.wait_events("results", 2)
    assert (first.exact, first.cdone, first.note) == expected
    assert (second.exact, second.cdone, second.note) == (True, None, ""), "it was said of the first"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (text.VIRTUAL_UNSUPPORTED + "BRAM", "bitstream_unsupported"),
        (text.VIRTUAL_UNAVAILABLE + "no chipdb", "decoder_unavailable"),
    ],
)
def test_given_a_count_that_cant_be_known_then_it_fails_with_a_typed_error(
    serving: DeviceHarness, line: str, code: str
) -> None:
    serving.evaluate(1, 2)
    serving.board.receive()
    serving.board.say(line)
    serving.board.rest()
    serving.board.measure(4)
    (failure,) = serving.recorder.wait_events("failures")
    assert failure.error.code == code
    assert serving.recorder.wait_events("results")[0].pulses == 4


# --- out of step --------------------------------------------------------------------------------


def test_given_a_watchdog_then_the_bitstream_is_sent_again_and_counted(
    serving: DeviceHarness,
) -> None:
    (evaluation,) = serving.evaluate(9)
    serving.board.start(50_000)
    serving.watchdog(50_000)
    assert value_of(serving.board.measure(77)) == 9
    (result,) = serving.recorder.wait_events("results")
    assert (result.evaluation, result.pulses) == (evaluation, 77)
    assert serving.recorder.named("failures") == []


def test_given_two_watchdogs_then_the_measurement_fails_and_the_next_goes_on(
    serving: DeviceHarness,
) -> None:
    serving.evaluate(1, 2)
    for _ in range(2):
        serving.board.start(1000)
        serving.watchdog(1000)
    (failure,) = serving.recorder.wait_events("failures")
    assert failure.error.code == "measurement_failed"
    assert value_of(serving.board.measure(5)) == 2
    assert [r.pulses for r in serving.recorder.wait_events("results")] == [5]


def test_given_stray_bytes_after_a_watchdog_then_nothing_is_sent_until_they_are_gone(
    serving: DeviceHarness,
) -> None:
    (evaluation,) = serving.evaluate(3)
    serving.board.start(50_000)
    serving.watchdog(50_000)
    # Bytes under way when the watchdog fired start a transfer that nobody means.
    serving.board.say(text.STARTED, text.RECEIVING)
    assert serving.board.pending(0.6) == 0, "sent into a transfer of strays: every count shifts"
    serving.board.watchdog(17)
    assert value_of(serving.board.measure(8)) == 3
    (result,) = serving.recorder.wait_events("results")
    assert (result.evaluation, result.pulses) == (evaluation, 8)


def test_given_stray_bytes_in_one_read_with_waiting_then_the_next_transfer_waits(
    serving: DeviceHarness,
) -> None:
    serving.evaluate(1, 2)
    serving.board.receive()
    serving.board.say(
        text.FLASH_TIMES_PREFIX, ", pulses: 1", text.WAITING, text.STARTED, text.RECEIVING
    )
    assert serving.board.pending(0.3) == 0
    serving.board.watchdog(4)
    assert value_of(serving.board.measure(2)) == 2


def test_given_a_transfer_dropped_without_a_word_then_it_is_sent_again(
    serving: DeviceHarness,
) -> None:
    serving.evaluate(3)
    serving.board.start(50_000)
    serving.board.say("Watchd\x00g timeo")
    serving.watchdog(0)
    assert value_of(serving.board.measure(8)) == 3
    assert serving.recorder.wait_events("results")[0].pulses == 8


def test_given_waiting_without_a_report_then_the_measurement_fails(serving: DeviceHarness) -> None:
    serving.evaluate(1, 2)
    serving.board.receive()
    serving.board.say(", pul\xff: 5", text.WAITING)
    serving.board.measure(6)
    assert serving.recorder.wait_events("failures")[0].error.code == "measurement_failed"
    assert serving.recorder.wait_events("results")[0].pulses == 6


def test_given_a_report_before_the_transfer_is_complete_then_it_is_nobodys(
    serving: DeviceHarness,
) -> None:
    serving.evaluate(1)
    serving.board.start()
    serving.board.report(4711)
    serving.board.say(text.VIRTUAL_UNSUPPORTED + "of somebody else")
    serving.board.say(RECEIVED)
    serving.board.report(5)
    serving.board.rest()
    assert [r.pulses for r in serving.recorder.wait_events("results")] == [5]
    assert serving.recorder.named("failures") == []


@pytest.mark.parametrize(
    "misbehave",
    [
        pytest.param(lambda board: board.receive(), id="no report"),
        pytest.param(lambda board: board.start(), id="never complete"),
        pytest.param(lambda board: None, id="not a word"),
        pytest.param(lambda board: (board.receive(), board.report(1)), id="never waits again"),
        pytest.param(
            lambda board: (board.start(9), board.say(text.WATCHDOG.format(received=9, size=SIZE))),
            id="dead after the watchdog",
        ),
        pytest.param(
            lambda board: (board.start(9), board.watchdog(9), board.say(text.STARTED)),
            id="dead in a transfer of strays",
        ),
        pytest.param(lambda board: (board.take(), board.say_bytes(b"babble" * 9999)), id="babble"),
    ],
)
def test_given_a_board_that_falls_silent_then_all_fails_and_the_device_is_tested_anew(
    serving: DeviceHarness, monkeypatch: pytest.MonkeyPatch, misbehave: Callable[[Any], None]
) -> None:
    for name in ("UPLOAD_DEADLINE", "REPORT_DEADLINE", "RETURN_DEADLINE"):
        monkeypatch.setattr(_meter, name, 0.4)
    serving.evaluate(1, 2, 3)
    mark = len(serving.recorder.reports)
    misbehave(serving.board)
    serving.recorder.wait_state(DeviceState.PREPARING, mark)
    serving.recorder.wait(
        lambda: (
            len(serving.recorder.named("failures")) + len(serving.recorder.named("results")) == 3
        )
    )
    serving.recorder.wait_events("finished")
    serving.answer_test()
    serving.recorder.wait_state(DeviceState.SERVING, mark)
    serving.evaluate(4, batch="b2")
    serving.board.measure(44)
    serving.recorder.wait(lambda: [r for r in serving.recorder.named("results") if r.pulses == 44])


# --- plugs --------------------------------------------------------------------------------------


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
    serving: DeviceHarness, call: dict[str, Any]
) -> None:
    serving.invoke("evaluate", **call)
    serving.invoke("evaluate", **call)
    serving.board.measure(5)
    serving.recorder.wait_events("results")
    serving.invoke("evaluate", **call)
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
    serving.board.rest()
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
    serving.board.rest()
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
    serving: DeviceHarness, call: dict[str, Any]
) -> None:
    serving.invoke("evaluate", **call, args={})
    with pytest.raises(InvalidRequest, match="repeats"):
        serving.invoke("evaluate", **call, args={"repeats": 2})


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


# --- a journal that can't be written --------------------------------------------------------------


@contextlib.contextmanager
def full_disk(harness: DeviceHarness) -> Iterator[None]:
    """The journal can't grow: SQLite says what it says of a disk without room."""

    def grow_no_more() -> int:
        db = harness.device.journal._db
        before: int = db.execute("PRAGMA max_page_count").fetchone()[0]
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages}")
        return before

    before = harness.on_loop(grow_no_more)
    yield
    harness.on_loop(lambda: harness.device.journal._db.execute(f"PRAGMA max_page_count = {before}"))


@contextlib.contextmanager
def locked(harness: DeviceHarness) -> Iterator[None]:
    """Somebody else, such as a backup, holds the file."""
    other = sqlite3.connect(harness.directory / "S1.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


Trouble = Callable[["DeviceHarness"], contextlib.AbstractContextManager[None]]
each_trouble = pytest.mark.parametrize("trouble", [full_disk, locked])


@each_trouble
def test_given_no_room_for_it_then_an_evaluation_is_refused_and_the_next_is_accepted(
    serving: DeviceHarness, trouble: Trouble, make_file: Callable[..., File]
) -> None:
    files = [make_file(bytes(SIZE), f"e{n}", annotations={"x": "y" * 9000}) for n in range(8)]
    with trouble(serving), pytest.raises(JournalUnavailable, match="journal"):
        serving.invoke("evaluate", bitstreams=files, batch="b", validate=False)
    assert serving.board.pending(0.05) == 0, "what was refused is not measured"
    serving.evaluate(7)
    assert value_of(serving.board.measure(5)) == 7
    assert [r.pulses for r in serving.recorder.wait_events("results")] == [5]
    assert serving.recorder.states[-1] is DeviceState.SERVING


@each_trouble
def test_given_no_room_for_an_outcome_then_it_is_sent_once_and_written_down_later(
    serving: DeviceHarness,
    trouble: Trouble,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., Any],
) -> None:
    monkeypatch.setattr(_outcomes, "WRITE_AGAIN", 0.05)
    # So large that it does not fit where its entry is.
    monkeypatch.setattr(PulseCountResult, "model_dump_json", lambda self: "z" * 20_000)
    serving.evaluate(7)
    serving.board.receive()
    with trouble(serving):
        serving.board.report(5)
        serving.board.rest()
        (result,) = serving.recorder.wait_events("results")
        assert result.pulses == 5
        assert serving.invoke("status")["unacknowledged"] == 0  # type: ignore[call-overload, index]
    eventually(
        lambda: serving.invoke("status")["unacknowledged"] == 1,  # type: ignore[call-overload, index]
        "the outcome to be written",
    )
    assert len(serving.recorder.named("results")) == 1


def test_given_a_journal_that_cant_be_opened_then_the_device_says_so_and_recovers(
    harness: DeviceHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actor, "JOURNAL_AGAIN", 0.05)
    blocked = harness.directory / "S1.sqlite"
    blocked.mkdir()
    harness.desire(HOLD)
    harness.plug()
    harness.pass_test()
    report = harness.recorder.wait_state(DeviceState.BROKEN)
    assert "journal" in report.reason
    assert report.retry is not None
    mark = len(harness.recorder.reports)
    blocked.rmdir()
    harness.answer_test()
    harness.recorder.wait_state(DeviceState.SERVING, mark)
    assert DeviceState.FLASHING not in harness.recorder.states, "it is not the board's fault"


# --- what a client finds that takes over ----------------------------------------------------------


def test_given_outcomes_nobody_has_acknowledged_then_they_are_collected_in_pages(
    serving: DeviceHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_outcomes, "COLLECT_PAGE", 2)
    evaluations = serving.evaluate(1, 2, 3, 4)
    for pulses in (1, 2, 3):
        serving.board.measure(pulses)
    serving.recorder.wait_events("results", 3)
    serving.board.receive()
    first = serving.invoke("collect")
    assert first == {"repeated": 2, "next": 2, "outstanding": 1}
    assert serving.invoke("collect", after=2) == {"repeated": 1, "next": None, "outstanding": 1}
    told = [result.evaluation for result in serving.recorder.named("results")]
    assert told == 2 * evaluations[:3]
    serving.invoke("acknowledge", evaluations=evaluations[:3])
    assert serving.invoke("collect") == {"repeated": 0, "next": None, "outstanding": 1}


def test_given_an_acknowledged_evaluation_when_it_is_sent_again_then_it_is_not_measured_again(
    serving: DeviceHarness, call: dict[str, Any]
) -> None:
    serving.invoke("evaluate", **call)
    serving.board.measure(5)
    serving.recorder.wait_events("results")
    serving.invoke("acknowledge", evaluations=["e1"])
    serving.invoke("evaluate", **call, retry=True)
    first, second = serving.recorder.wait_events("results", 2)
    assert first == second
    assert serving.board.pending(0.05) == 0


def test_given_a_failure_when_another_try_is_asked_for_then_it_is_measured_once_more(
    serving: DeviceHarness, call: dict[str, Any]
) -> None:
    serving.invoke("evaluate", **call)
    serving.board.receive()
    serving.board.say(text.WAITING)
    serving.recorder.wait_events("failures")
    serving.invoke("evaluate", **call)
    serving.recorder.wait_events("failures", 2)
    serving.invoke("evaluate", **call, retry=True)
    serving.board.measure(9)
    (result,) = serving.recorder.wait_events("results")
    assert (result.evaluation, result.pulses) == ("e1", 9)


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
    serving.board.rest()
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
