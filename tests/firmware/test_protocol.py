"""How boards keep to the contract when something goes wrong: emulated and virtual ones."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from tests.firmware.conftest import Board, only_emulated
from tests.firmware.emulated_board import EmulatedBoard, Host

from icebus.schemas.boards.framed import HEADER_SIZE, Frame, FrameType
from icebus.schemas.boards.framed_replies import Outcome, Phase, Reason, Result
from icebus.schemas.boards.framed_requests import (
    CountPulses,
    Encoding,
    Measure,
    Measurement,
    TakeSamples,
)

LONG = CountPulses(window_us=60_000_000)
SHORT = CountPulses(window_us=1000)


def frame(bitstream: bytes, sequence: int, measurement: Measurement = SHORT) -> bytes:
    payload = Measure.of(bitstream, measurement).pack()
    return Frame(FrameType.MEASURE, sequence, payload).pack()


def test_given_a_flipped_bit_in_a_payload_when_received_then_it_is_rejected_and_the_next_is_not(
    host: Host, bitstream: bytes
) -> None:
    damaged = bytearray(frame(bitstream, 100))
    damaged[200] ^= 4

    host.port.write(damaged + frame(bitstream, 101))

    reply = host.reply(100)
    assert (reply.type, reply.payload.reason) == (FrameType.REJECTED, Reason.PAYLOAD_DAMAGED)
    assert host.result(101).pulses == (8,)


def test_given_garbage_when_received_then_it_is_told_once_and_the_next_frame_is_found(
    host: Host, bitstream: bytes
) -> None:
    garbage = random.Random(3).randbytes(500) + b"\xb1\xc0" * 20

    host.port.write(garbage + frame(bitstream, 100))

    assert host.result(100).pulses == (8,)
    told = [reply.payload.reason for reply in host.unread if reply.sequence == 0]
    assert told == [Reason.HEADER_DAMAGED]
    assert host.status().skipped_bytes == len(garbage)


def test_given_a_damaged_header_when_received_then_its_payload_is_skipped(
    host: Host, bitstream: bytes
) -> None:
    damaged = bytearray(frame(bitstream, 100))
    damaged[9] ^= 1

    host.port.write(damaged + Frame(FrameType.STATUS, 101).pack())

    assert host.reply(101).payload.skipped_bytes == len(damaged)
    assert host.count(bitstream).pulses == (160,)


def test_given_a_frame_that_stops_when_silence_follows_then_it_is_given_up(
    host: Host, bitstream: bytes
) -> None:
    host.port.write(frame(bitstream, 100)[: HEADER_SIZE + 50])

    reply = host.reply(100)

    assert (reply.payload.reason, reply.payload.detail) == (Reason.CUT_OFF, 50)
    assert host.count(bitstream).pulses == (160,)


def test_given_two_that_wait_when_aborted_then_all_have_their_outcome_and_the_board_is_idle(
    host: Host, bitstream: bytes
) -> None:
    sequences = [host.measure(bitstream, LONG) for _ in range(3)]
    host.wait_until_measuring()

    aborted = host.reply(host.send(FrameType.ABORT))

    assert aborted.type is FrameType.ABORTED
    outcomes = {r.sequence: r.payload.outcome for r in host.unread if r.type is FrameType.RESULT}
    assert outcomes == dict.fromkeys(sequences, Outcome.ABORTED)
    assert (aborted.payload.phase, aborted.payload.waiting) == (Phase.IDLE, 0)
    assert host.count(bitstream).pulses == (160,)


@pytest.mark.parametrize("later", [0, 1, 2, 4, 8, 16])
def test_given_an_abort_at_any_point_then_each_has_one_outcome_and_the_next_is_right(
    host: Host, bitstream: bytes, later: int
) -> None:
    # Each status takes a millisecond or so: the abort meets unpacking, configuring, measuring.
    sequences = [host.measure(bitstream, CountPulses(window_us=5000)) for _ in range(4)]
    for _ in range(later * 4):
        host.status()

    assert host.reply(host.send(FrameType.ABORT)).type is FrameType.ABORTED

    results = [reply for reply in host.unread if reply.type is FrameType.RESULT]
    assert sorted(result.sequence for result in results) == sequences
    assert {r.payload.outcome for r in results} <= {Outcome.MEASURED, Outcome.ABORTED}
    assert host.count(bitstream).pulses == (160,)


@only_emulated
def test_given_samples_being_taken_when_aborted_then_the_next_sampling_is_right(
    board: EmulatedBoard, host: Host, bitstream: bytes
) -> None:
    board.command("voltage", input=2, values=[9])
    slow = TakeSamples(adc_input=2, rate_hz=1000, count=2000)
    sequence = host.measure(bitstream, slow)
    host.wait_until_measuring()

    host.reply(host.send(FrameType.ABORT))

    assert host.result(sequence).outcome is Outcome.ABORTED
    after = host.measure(bitstream, TakeSamples(adc_input=2, rate_hz=100_000, count=200))
    assert host.reply(after, FrameType.SAMPLES).payload.values == (9,) * 200
    assert host.result(after).outcome is Outcome.MEASURED


@pytest.mark.parametrize("cut", ["in a frame", "while measuring"])
def test_given_a_host_that_dies_when_another_comes_then_it_finds_the_board_idle(
    board: Board, bitstream: bytes, cut: str
) -> None:
    with board.opened() as host:
        host.measure(bitstream, LONG)
        host.measure(bitstream, LONG)
        host.wait_until_measuring()
        if cut == "in a frame":
            host.port.write(frame(bitstream, 100)[:400])

    with board.opened() as host:
        status = host.status()
        assert (status.phase, status.waiting) == (Phase.IDLE, 0)
        assert host.count(bitstream).pulses == (160,)
        assert [reply for reply in host.unread if isinstance(reply.payload, Result)] == []


@only_emulated
def test_given_a_host_that_falls_silent_when_it_is_owed_results_then_they_are_aborted(
    board: EmulatedBoard, host: Host, bitstream: bytes
) -> None:
    sequence = host.measure(bitstream, LONG)
    host.wait_until_measuring()

    board.command("skip", seconds=9)
    result = host.result(sequence)

    assert result.outcome is Outcome.ABORTED
    assert 9_000_000 < result.window_us < 11_000_000


@only_emulated
def test_given_a_host_that_asks_now_and_then_when_a_window_is_long_then_it_is_measured(
    board: EmulatedBoard, host: Host, bitstream: bytes
) -> None:
    sequence = host.measure(bitstream, LONG)
    host.wait_until_measuring()

    for _ in range(12):
        board.command("skip", seconds=5)
        host.status()

    result = host.result(sequence)
    assert result.outcome is Outcome.MEASURED
    # The processor also slept when the window should have ended; it says how long it was in truth.
    assert 60_000_000 <= result.window_us < 66_000_000
    assert abs(result.pulses[0] - result.window_us * 8 / 1000) <= 1


@only_emulated
def test_given_firmware_that_hangs_when_the_watchdog_bites_then_the_banner_says_so(
    board: EmulatedBoard, bitstream: bytes
) -> None:
    with board.opened() as host:
        host.measure(bitstream, LONG)
        host.wait_until_measuring()
        board.command("hang")
        board.wait_for("application")
        host.wait_until_closed()

    with board.opened() as host:
        assert host.banner().reset == "watchdog"
        assert host.count(bitstream).pulses == (160,)


def test_given_power_lost_in_a_frame_when_it_is_back_then_the_board_works(
    board: Board, bitstream: bytes
) -> None:
    with board.opened() as host:
        host.measure(bitstream, LONG)
        host.wait_until_measuring()
        host.port.write(frame(bitstream, 100)[:400])
        board.command("power")
        board.wait_for("application")

    with board.opened() as host:
        assert host.banner().reset == "power"
        assert host.count(bitstream).pulses == (160,)


def test_given_a_restart_asked_for_then_it_is_accepted_and_the_banner_says_so(
    board: Board,
) -> None:
    with board.opened() as host:
        assert host.reply(host.send(FrameType.RESTART)).type is FrameType.ACCEPTED
        board.wait_for("application")

    with board.opened() as host:
        assert host.banner().reset == "request"


@pytest.mark.parametrize("way", ["request", "1200 baud"])
def test_given_a_wish_for_the_bootloader_then_the_board_restarts_into_it(
    board: Board, way: str
) -> None:
    with board.opened() as host:
        if way == "request":
            assert host.reply(host.send(FrameType.BOOTLOADER)).type is FrameType.ACCEPTED
        else:
            board.set_baud(1200)
        board.wait_for("bootloader")
        host.wait_until_closed()


def test_given_another_baud_rate_then_nothing_happens(board: Board, host: Host) -> None:
    board.set_baud(115_200)

    assert host.banner().reset == "power"


GOOD = Measure(SHORT, 100, 0, Encoding.DEFLATE, b"x")
INVALID = {
    "no bitstream": (replace(GOOD, bitstream_size=0), 0),
    "a bitstream that is too long": (replace(GOOD, bitstream_size=104_097), 0),
    "no pins": (replace(GOOD, measurement=CountPulses(())), 10),
    "a pin that is not connected": (replace(GOOD, measurement=CountPulses((27, 2))), 13),
    "a window that is too short": (replace(GOOD, measurement=CountPulses(window_us=999)), 16),
    "a window that is too long": (replace(GOOD, measurement=CountPulses(window_us=60_000_001)), 16),
    "an input that is not there": (replace(GOOD, measurement=TakeSamples(0)), 11),
    "a rate that is too high": (replace(GOOD, measurement=TakeSamples(2, 500_001)), 20),
    "no samples": (replace(GOOD, measurement=TakeSamples(2, count=0)), 24),
    "too many samples": (replace(GOOD, measurement=TakeSamples(2, count=2049)), 24),
}


def test_given_what_the_board_can_not_do_when_asked_then_it_says_which_field(
    host: Host,
) -> None:
    sequences = {case: host.send(FrameType.MEASURE, INVALID[case][0].pack()) for case in INVALID}
    encoding, kind = bytearray(GOOD.pack()), bytearray(GOOD.pack())
    encoding[8], kind[9] = 2, 3
    raw = {8: bytes(encoding), 9: bytes(kind), 28: GOOD.pack()[:28]}
    raw_sequences = {at: host.send(FrameType.MEASURE, payload) for at, payload in raw.items()}

    for case, sequence in sequences.items():
        rejected = host.reply(sequence).payload
        assert (rejected.reason, rejected.detail) == (Reason.INVALID_ARGUMENT, INVALID[case][1])
    for at, sequence in raw_sequences.items():
        rejected = host.reply(sequence).payload
        assert (rejected.reason, rejected.detail) == (Reason.INVALID_ARGUMENT, at)


def test_given_requests_that_are_none_when_received_then_they_are_rejected_and_skipped(
    host: Host,
) -> None:
    unknown, long = host.send(0x55, b"payload"), host.send(FrameType.HELLO, b"payload")

    rejected = host.reply(unknown).payload
    assert (rejected.reason, rejected.detail) == (Reason.UNKNOWN_TYPE, 0x55)
    rejected = host.reply(long).payload
    assert (rejected.reason, rejected.detail) == (Reason.TOO_LONG, 0)
    assert host.status().skipped_bytes == 0


def test_given_a_sequence_that_is_owed_its_result_when_used_again_then_it_is_rejected(
    host: Host, bitstream: bytes
) -> None:
    payload = Measure.of(bitstream, CountPulses(window_us=50_000)).pack()
    for _ in range(2):
        host.send(FrameType.MEASURE, payload, sequence=7)

    assert host.reply(7, FrameType.REJECTED).payload.reason is Reason.SEQUENCE_IN_USE
    assert host.result(7).pulses == (400,)
    host.send(FrameType.MEASURE, payload, sequence=7)
    assert host.result(7).pulses == (400,)


@pytest.mark.parametrize("seed", [1, 2])
def test_given_damaged_frames_at_random_then_no_result_is_wrong_and_the_board_goes_on(
    host: Host, bitstream: bytes, seed: int
) -> None:
    chance = random.Random(seed)
    for sequence in range(1000, 1040):
        sent = bytearray(
            frame(bitstream, sequence)
            if chance.random() < 0.7
            else Frame(chance.choice([1, 3, 4, 9, 200]), sequence).pack()
        )
        damage = chance.randrange(4)
        if damage == 0:
            sent[chance.randrange(len(sent))] ^= 1 << chance.randrange(8)
        elif damage == 1:
            del sent[chance.randrange(len(sent)) :]
        elif damage == 2:
            sent[:0] = chance.randbytes(chance.randrange(80))
        host.port.write(sent)

    host.port.write(bytes(200_000))  # whatever length a cut frame announced
    assert host.reply(host.send(FrameType.ABORT)).type is FrameType.ABORTED

    for reply in host.unread:
        if isinstance(reply.payload, Result) and reply.payload.outcome is Outcome.MEASURED:
            assert reply.sequence in range(1000, 1040)
            assert reply.payload.pulses == (8,)
    assert host.count(bitstream).pulses == (160,)
