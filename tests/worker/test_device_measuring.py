"""A device measures: what it believes of what its board says, and what it does when out of step."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.worker.device_harness import bitstream_file
from tests.worker.scripted_board import RECEIVED, SIZE, blank, value_of

from icebus.schemas.boards import pulse_count_text as text
from icebus.schemas.boards.bitstream import bank_writes
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import BitstreamInvalid, InvalidRequest, MeasurementUnsupported
from icebus.worker.firmware.pulse_count import _meter

if TYPE_CHECKING:
    from tests.worker.device_harness import DeviceHarness

pytestmark = pytest.mark.timeout(60)


# --- one measurement ----------------------------------------------------------------------------


def test_given_a_bitstream_when_measured_then_its_count_comes_back(serving: DeviceHarness) -> None:
    (evaluation,) = serving.evaluate(7)
    assert value_of(serving.board.measure(2000)) == 7
    (result,) = serving.recorder.wait_events("results")
    assert (result.evaluation, result.pulses) == (evaluation, 2000)
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


def test_given_a_batch_when_withdrawn_then_what_waits_of_it_fails_and_the_rest_is_measured(
    serving: DeviceHarness,
) -> None:
    on_board, *waiting = serving.evaluate(1, 2, 3)
    other = bitstream_file(blank(9))
    serving.invoke("evaluate", bitstreams=[other], batch="other", validate=False)
    told = serving.invoke("withdraw", batch="b")
    assert told == {"withdrawn": 2, "measuring": 1}
    failures = serving.recorder.wait_events("failures", 2)
    assert [each.evaluation for each in failures] == waiting
    assert {each.error.code for each in failures} == {"evaluation_withdrawn"}
    assert [value_of(serving.board.measure(count)) for count in (5, 6)] == [1, 9]
    results = serving.recorder.wait_events("results", 2)
    assert [each.evaluation for each in results] == [on_board, other.id]
    ends = serving.recorder.wait_events("finished", 2)
    assert [(each.batch, each.results, each.failures) for each in ends] == [
        ("b", 1, 2),
        ("other", 1, 0),
    ]
    assert serving.invoke("withdraw", batch="unknown") == {"withdrawn": 0, "measuring": 0}


def test_given_a_batch_of_which_more_was_to_come_when_withdrawn_then_it_is_finished(
    serving: DeviceHarness,
) -> None:
    serving.invoke(
        "evaluate", bitstreams=[bitstream_file(blank(1))], batch="b", more=True, validate=False
    )
    serving.board.measure(5)
    serving.recorder.wait_events("results")
    serving.invoke("withdraw", batch="b")
    (end,) = serving.recorder.wait_events("finished")
    assert (end.batch, end.results, end.failures) == ("b", 1, 0)


def test_given_garbage_between_the_lines_then_the_count_is_still_understood(
    serving: DeviceHarness,
) -> None:
    serving.evaluate(1, 2)
    serving.board.receive()
    serving.board.say_bytes(b"\xff\x00garbage\r\n\r\n\n")
    serving.board.report(5)
    serving.board.say_bytes(b"\x80" * 50_000 + b"\n")
    serving.board.go_idle()
    serving.board.measure(6)
    assert [r.pulses for r in serving.recorder.wait_events("results", 2)] == [5, 6]


EXAMPLE = Path(__file__).parents[2] / "examples" / "circuits" / "pulse_2khz.bin"


@pytest.mark.parametrize("validate", [True, False])
def test_given_a_bitstream_of_another_size_then_the_boards_is_sent_and_the_note_says_so(
    serving: DeviceHarness, validate: bool
) -> None:
    good = EXAMPLE.read_bytes()
    bare = bitstream_file(good[4:-1])
    serving.invoke("evaluate", bitstreams=[bare], validate=validate)
    sent = serving.board.measure(2000)
    (result,) = serving.recorder.wait_events("results")
    assert (len(sent), bank_writes(sent)[0].size) == (SIZE, bank_writes(good)[0].size)
    assert result.sha256 == bare.hash
    assert f"from {len(good) - 5:,} bytes" in result.note


def test_given_another_size_and_what_the_board_says_then_the_note_has_both(
    serving: DeviceHarness,
) -> None:
    serving.invoke("evaluate", bitstreams=[bitstream_file(EXAMPLE.read_bytes()[4:])])
    serving.board.receive()
    serving.board.report(3, text.VIRTUAL_ESTIMATE + "a loop")
    (result,) = serving.recorder.wait_events("results")
    assert result.note.startswith("brought from")
    assert result.note.endswith("; a loop")


def test_given_no_bitstream_and_another_size_then_it_is_refused_unvalidated_too(
    serving: DeviceHarness,
) -> None:
    with pytest.raises(BitstreamInvalid) as caught:
        serving.invoke("evaluate", bitstreams=[bitstream_file(b"short")], validate=False)
    assert caught.value.details["problem"] == "size"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (text.VIRTUAL_EXACT, (True, True, "")),
        (text.VIRTUAL_ESTIMATE + "a loop", (False, True, "a loop")),
        (text.VIRTUAL_CDONE_LOW, (False, False, "the FPGA refused the bitstream (CDONE low)")),
    ],
)
def test_given_a_virtual_board_then_its_remark_goes_with_the_count(
    serving: DeviceHarness, line: str, expected: tuple[bool, bool, str]
) -> None:
    serving.evaluate(1, 2)
    serving.board.receive()
    serving.board.report(3, line)
    serving.board.go_idle()
    serving.board.measure(4)
    first, second = serving.recorder.wait_events("results", 2)
    assert (first.exact, first.cdone, first.note) == expected
    assert second.cdone is None, "it was said of the first"
    assert second.note.startswith("not a valid bitstream"), "that file, which nobody validated"


def test_given_a_board_that_does_not_tell_of_cdone_then_the_file_says_whether_its_count_is_exact(
    serving: DeviceHarness,
) -> None:
    good = EXAMPLE.read_bytes()
    spoilt = good[:50_000] + bytes([good[50_000] ^ 1]) + good[50_001:]
    files = [bitstream_file(data) for data in (good, spoilt)]
    serving.invoke("evaluate", bitstreams=files, validate=False)
    serving.board.measure(2000)
    serving.board.measure(0)
    right, refused = serving.recorder.wait_events("results", 2)
    assert (right.exact, right.note) == (True, "")
    assert not refused.exact
    assert "checksum" in refused.note


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
    serving.board.go_idle()
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
    serving.board.go_idle()
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


# --- what is asked for ----------------------------------------------------------------------------


@pytest.mark.parametrize("args", [{"pins": [25]}, {"pins": [27, 25]}, {"window": 0.5}])
def test_given_text_firmware_when_asked_for_more_than_it_does_then_nothing_is_accepted(
    serving: DeviceHarness, args: dict[str, Any]
) -> None:
    files = [bitstream_file(blank(1))]
    with pytest.raises(MeasurementUnsupported, match=r"pin 27 for 1 s only.*firmware icebus"):
        serving.invoke("evaluate", bitstreams=files, validate=False, args=args)
    with pytest.raises(InvalidRequest, match="window"):
        serving.invoke("evaluate", bitstreams=files, validate=False, args={"window": 61})
    status = serving.invoke("status")
    assert isinstance(status, dict)
    assert (status["queued"], status["measuring"]) == (0, None)


def test_given_text_firmware_when_asked_for_what_it_does_then_it_is_measured(
    serving: DeviceHarness,
) -> None:
    files = [bitstream_file(blank(1))]
    args = {"pins": [27], "window": 1}
    serving.invoke("evaluate", bitstreams=files, validate=False, args=args)
    serving.board.measure(2000)
    (result,) = serving.recorder.wait_events("results")
    assert (result.pulses, result.pin_pulses) == (2000, {27: 2000})
    assert (result.frequency, result.counted) == (None, None), "it does not tell its window"
