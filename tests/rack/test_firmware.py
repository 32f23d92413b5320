from __future__ import annotations

import itertools
import re
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rack.steps import ASKED, evaluation_of, lines_of

from icebus.rack.firmware import Evaluation, FirmwareSettings, Silent, firmware_of
from icebus.rack.firmware.default import Default
from icebus.rack.firmware.pulse_count import PulseCount
from icebus.rack.verdict import Verdict
from icebus.schemas.boards import pulse_count_text as text
from icebus.schemas.boards.firmware import Chip, FirmwareMarker
from icebus.schemas.boards.rack import RackBoard

SIZE = 104_090
BOARD = RackBoard(port="1-1.1", serial="E6616407E3545091")
BITSTREAM = bytes(i * 7 % 251 for i in range(SIZE))
EXACT = Verdict.of(1998)
GREETING = ("USB Connected :)", "Waiting for bitstream transfer")
TRANSFERRED = ("Bitstream transfer started", "Receiving bitstream")


def pulse_count(seed: int = 0, **settings: Any) -> PulseCount:
    return PulseCount(FirmwareSettings(**{"load": 0.0, **settings}), Random(seed))


def test_given_a_bitstream_when_sent_then_the_lines_are_those_of_the_protocol() -> None:
    firmware = pulse_count()

    assert lines_of(firmware.start(0.0)) == GREETING
    assert lines_of(firmware.receive(BITSTREAM[:1], 1.0)) == TRANSFERRED
    assert lines_of(firmware.receive(BITSTREAM[1:-1], 1.05)) == ()
    step = firmware.receive(BITSTREAM[-1:], 1.1)
    assert lines_of(step) == ("Received bitstream in 100000 us :)", "Flashing FPGA")
    assert evaluation_of(step).bitstream == BITSTREAM
    assert lines_of(firmware.measured(ASKED, EXACT, 1.2)) == ()
    end = firmware.deadline
    assert end is not None
    assert lines_of(firmware.wake(end - 1e-6)) == ()
    assert lines_of(firmware.wake(end)) == (
        "virtual FPGA: exact",
        "FPGA Flash times (us): init 0, start 0, open 0, write 0, close 0",
        ", pulses: 1998",
        "IDLE",
        *GREETING,
    )
    assert firmware.deadline is None
    assert lines_of(firmware.receive(b"x", 9.0)) == TRANSFERRED


def test_given_a_simulation_that_takes_longer_than_the_window_when_done_then_it_is_reported() -> (
    None
):
    firmware = pulse_count(window=0.1)
    firmware.receive(BITSTREAM, 0.0)

    assert lines_of(firmware.wake(0.1)) == ()
    assert ", pulses: 1998" in lines_of(firmware.measured(ASKED, EXACT, 7.0))


@given(st.lists(st.integers(0, SIZE + 200), max_size=12), st.integers(0, 200))
def test_given_any_splitting_of_the_bytes_when_received_then_the_outcome_is_the_same(
    cuts: Any, extra: Any
) -> None:
    data = BITSTREAM + b"e" * extra
    whole = pulse_count()
    expected = whole.receive(data, 1.0)
    expected_end = whole.wake(5.0), whole.measured(ASKED, EXACT, 5.0)
    split = pulse_count()
    lines: tuple[str, ...] = ()
    evaluations: list[Evaluation] = []
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        step = split.receive(data[start:end], 1.0)
        lines += lines_of(step)
        evaluations += step.evaluations

    assert lines == lines_of(expected)
    assert [asked.bitstream for asked in evaluations] == [evaluation_of(expected).bitstream]
    assert (split.wake(5.0), split.measured(ASKED, EXACT, 5.0)) == expected_end


def test_given_a_byte_too_many_when_measured_then_it_starts_and_shifts_the_next_transfer() -> None:
    firmware = pulse_count()
    firmware.receive(BITSTREAM + b"!", 0.0)
    firmware.measured(ASKED, EXACT, 0.5)

    assert lines_of(firmware.wake(1.0))[-4:] == (*GREETING, *TRANSFERRED)
    step = firmware.receive(BITSTREAM, 1.5)

    assert evaluation_of(step).bitstream == b"!" + BITSTREAM[:-1]


def test_given_a_byte_too_few_when_two_seconds_have_passed_then_the_watchdog_barks() -> None:
    firmware = pulse_count()
    firmware.receive(BITSTREAM[:-1], 1.0)

    assert firmware.deadline == 3.0
    assert lines_of(firmware.wake(2.999)) == ()
    assert lines_of(firmware.wake(3.0)) == (
        "Watchdog timeout, 104089 bytes received of 104090",
        "Waiting for bitstream transfer",
    )
    assert firmware.deadline is None
    step = firmware.receive(BITSTREAM, 4.0)
    assert evaluation_of(step).bitstream == BITSTREAM


def test_given_bytes_after_the_watchdog_was_due_when_received_then_they_are_the_next() -> None:
    firmware = pulse_count(watchdog=0.5)
    firmware.receive(b"abc", 0.0)

    assert lines_of(firmware.receive(b"d", 0.5)) == (
        "Watchdog timeout, 3 bytes received of 104090",
        "Waiting for bitstream transfer",
        *TRANSFERRED,
    )
    assert firmware.deadline == 1.0


def test_given_a_host_that_closes_within_a_transfer_when_it_comes_back_then_all_starts_anew() -> (
    None
):
    firmware = pulse_count()
    firmware.receive(BITSTREAM[:1000], 0.0)

    assert lines_of(firmware.host_closed(0.1)) == ()
    assert firmware.deadline is None
    step = firmware.receive(BITSTREAM, 0.2)
    assert evaluation_of(step).bitstream == BITSTREAM


def test_given_a_host_that_closes_within_a_measurement_when_it_ends_then_it_is_reported() -> None:
    firmware = pulse_count()
    firmware.receive(BITSTREAM, 0.0)
    firmware.host_closed(0.1)
    firmware.measured(ASKED, EXACT, 0.2)

    assert ", pulses: 1998" in lines_of(firmware.wake(1.0))


@pytest.mark.parametrize("window", [0.0, 0.0005, 0.05, 1.0, 5.0])
def test_given_a_window_when_measured_then_up_to_a_millisecond_of_clock_is_missing(
    window: Any,
) -> None:
    firmware = pulse_count(window=window)
    cycles = []
    for _ in range(200):
        step = firmware.receive(BITSTREAM, 0.0)
        assert firmware.deadline == pytest.approx(evaluation_of(step).cycles / 48e6)
        cycles.append(evaluation_of(step).cycles)
        firmware.measured(ASKED, EXACT, 0.0)
        firmware.wake(9.0)

    full = round(window * 48e6)
    assert all(max(0, full - 48_000) <= c <= full for c in cycles)
    if window >= 0.05:
        assert min(cycles) < full - 40_000
        assert max(cycles) > full - 8_000


def test_given_the_same_seed_when_measured_then_the_windows_are_the_same() -> Any:
    def cycles(seed: int) -> list[int]:
        firmware = pulse_count(seed, window=0.1)
        got = []
        for _ in range(5):
            got.append(evaluation_of(firmware.receive(BITSTREAM, 0.0)).cycles)
            firmware.measured(ASKED, EXACT, 0.0)
            firmware.wake(1.0)
        return got

    assert cycles(1) == cycles(1)
    assert cycles(1) != cycles(2)


@pytest.mark.parametrize(
    ("verdict", "line", "report"),
    [
        (
            Verdict.of(7, exact=False, note="period\r\nnot found ☹" + "x" * 400),
            r"virtual FPGA: estimate: period not found \?x+\.\.\.",
            [", pulses: 7"],
        ),
        (
            Verdict.refused(),
            "virtual FPGA: cdone low",
            [", pulses: 0"],
        ),
        (Verdict.unsupported("block RAM"), "virtual FPGA: unsupported: block RAM", []),
        (Verdict.unavailable("no chipdb"), "virtual FPGA: decoder unavailable: no chipdb", []),
    ],
)
def test_given_a_verdict_when_reported_then_no_count_is_invented_and_every_line_is_one(
    verdict: Any, line: Any, report: Any
) -> None:
    firmware = pulse_count()
    firmware.receive(BITSTREAM, 0.0)
    lines = [*lines_of(firmware.measured(ASKED, verdict, 0.1)), *lines_of(firmware.wake(1.0))]

    assert re.fullmatch(line, lines[0])
    assert [found for found in lines if "pulses" in found] == report
    assert lines[-3:] == ["IDLE", *GREETING]
    assert all(found.isascii() and found.isprintable() for found in lines)
    assert all(len(found) <= text.MAX_LINE for found in lines)


def test_given_no_count_when_the_verdict_comes_then_the_window_is_not_waited_for() -> None:
    firmware = pulse_count()
    firmware.receive(BITSTREAM, 0.0)

    assert lines_of(firmware.measured(ASKED, Verdict.unsupported("PLL"), 0.01))[-1] == GREETING[-1]
    assert firmware.wants == 1


def test_given_default_firmware_when_woken_then_one_line_an_interval_on_common_ticks() -> None:
    firmware = Default(FirmwareSettings(interval=0.25), Random(0))

    assert lines_of(firmware.start(10.1)) == ("default firmware",)
    assert firmware.deadline == pytest.approx(10.25)
    assert lines_of(firmware.wake(10.2)) == ()
    assert lines_of(firmware.wake(10.25)) == ("default firmware",)
    assert firmware.deadline == pytest.approx(10.5)
    assert lines_of(firmware.receive(b"hello", 10.3)) == ()


@given(st.floats(1e-3, 10), st.floats(0, 1e6))
def test_given_any_interval_when_scheduled_then_the_next_line_is_ahead(
    interval: Any, now: Any
) -> None:
    firmware = Default(FirmwareSettings(interval=interval), Random(0))
    firmware.start(now)

    assert now < firmware.deadline <= now + 2 * interval


@pytest.mark.parametrize(
    ("name", "expected"), [("default", Default), ("pulse_count", PulseCount), ("other", Silent)]
)
def test_given_a_marker_when_looked_up_then_it_is_that_firmware(name: Any, expected: Any) -> None:
    marker = FirmwareMarker(name=name, chip=Chip.RP2040)

    assert type(firmware_of(marker, FirmwareSettings(), Random(0), BOARD)) is expected


def test_given_no_marker_when_looked_up_then_the_firmware_is_silent() -> None:
    firmware = firmware_of(None, FirmwareSettings(), Random(0), BOARD)

    assert lines_of(firmware.start(0.0)) == ()
    assert firmware.deadline is None
    assert firmware.wants == 0
