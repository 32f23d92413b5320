"""What boards measure: the image in the emulator, and virtual ones."""

from __future__ import annotations

import random
import zlib
from dataclasses import replace

import pytest
from tests.firmware.conftest import circuit, only_emulated
from tests.firmware.emulated_board import FLASH_ID, EmulatedBoard, Host

from icebus.schemas.boards.framed import FrameType
from icebus.schemas.boards.framed_replies import Outcome, Phase
from icebus.schemas.boards.framed_requests import (
    CountPulses,
    Encoding,
    Measure,
    Measurement,
    TakeSamples,
)

GPIO_OF_27, GPIO_OF_25, GPIO_OF_18 = 0, 1, 7
CONFIGURING_US = 40_000
"""More than configuring the FPGA takes, and less than that and another bitstream's upload."""


@only_emulated
def test_given_a_board_when_power_comes_on_then_usb_and_banner_say_what_it_is(
    board: EmulatedBoard,
) -> None:
    board.command("power")
    found = board.wait_for("application")
    with board.opened() as host:
        banner = host.banner()

    assert (found["vendor"], found["product_id"]) == (0x1209, 0xB1C0)
    assert (found["manufacturer"], found["product"]) == ("icebus", "icebus pico-ice")
    assert found["serial"] == banner.id == FLASH_ID
    assert (banner.protocol, banner.firmware, banner.chip) == (1, "icebus", "rp2040")
    assert banner.reset == "power"
    assert banner.pins[0] == 27


def test_given_a_circuit_when_measured_then_it_counts_what_the_virtual_fpga_does(
    host: Host, frequency_khz: int
) -> None:
    result = host.count(circuit(frequency_khz), CountPulses(window_us=50_000))

    assert result.outcome is Outcome.MEASURED
    assert result.cdone
    assert result.pulses == (frequency_khz * 50,)
    assert abs(result.window_us - 50_000) <= 1
    assert 15_000 < result.temperature_mc < 25_000


@only_emulated
def test_given_10_khz_on_the_pin_when_counted_for_a_second_then_it_is_10000(
    board: EmulatedBoard, host: Host, bitstream: bytes
) -> None:
    board.command("pulses", gpio=GPIO_OF_27, hz=10_000)
    try:
        result = host.count(bitstream, CountPulses(window_us=1_000_000))
    finally:
        board.command("pulses", gpio=GPIO_OF_27, hz=None)

    assert abs(result.pulses[0] - 10_000) <= 1


@only_emulated
def test_given_several_pins_when_counted_then_each_has_its_own_count_of_the_same_window(
    board: EmulatedBoard, host: Host, bitstream: bytes
) -> None:
    board.command("pulses", gpio=GPIO_OF_25, hz=100_000)
    board.command("pulses", gpio=GPIO_OF_18, hz=30_000)
    result = host.count(bitstream, CountPulses(pins=(25, 27, 21, 18), window_us=20_000))

    assert abs(result.pulses[0] - 2000) <= 1
    assert result.pulses[1:3] == (160, 0)
    assert abs(result.pulses[3] - 600) <= 1


@pytest.mark.parametrize("window_us", [1000, 7777])
def test_given_a_short_window_when_counted_then_it_is_that_long(
    host: Host, bitstream: bytes, window_us: int
) -> None:
    result = host.count(bitstream, CountPulses(window_us=window_us))

    assert abs(result.window_us - window_us) <= 1
    assert abs(result.pulses[0] - window_us * 8 / 1000) <= 1


def test_given_a_bitstream_whose_checksum_is_wrong_when_measured_then_no_window_is_spent(
    host: Host, bitstream: bytes
) -> None:
    broken = bytearray(bitstream)
    broken[3000] ^= 1

    refused, counted = host.measure(bytes(broken)), host.measure(bitstream)

    result = host.result(refused)
    assert result.outcome is Outcome.NOT_CONFIGURED
    assert not result.cdone
    assert result.window_us == 0
    assert host.result(counted).pulses == (160,)


@pytest.mark.parametrize("fault", ["checksum", "cut", "bits", "size", "stored"])
def test_given_bytes_that_are_not_what_was_announced_then_the_fpga_is_not_touched(
    host: Host, bitstream: bytes, fault: str
) -> None:
    good = Measure.of(bitstream, CountPulses(window_us=20_000))
    flipped = bytes([*good.encoded[:300], good.encoded[300] ^ 8, *good.encoded[301:]])
    wrong = {
        "checksum": replace(good, bitstream_crc=good.bitstream_crc ^ 1),
        "cut": replace(good, encoded=good.encoded[:-100]),
        "bits": replace(good, encoded=flipped),
        "size": replace(good, bitstream_size=good.bitstream_size - 1),
        "stored": replace(good, encoding=Encoding.STORED),
    }[fault]

    result = host.result(host.send(FrameType.MEASURE, wrong.pack()))

    assert result.outcome is Outcome.BITSTREAM_DAMAGED
    assert (result.configure_us, result.window_us) == (0, 0)
    assert host.count(bitstream).pulses == (160,)


def test_given_a_bitstream_as_it_is_when_measured_then_it_counts_the_same(
    host: Host, bitstream: bytes
) -> None:
    good = Measure.of(bitstream, CountPulses(window_us=20_000))
    stored = replace(good, encoding=Encoding.STORED, encoded=bitstream)

    assert host.result(host.send(FrameType.MEASURE, stored.pack())).pulses == (160,)


def test_given_one_being_measured_when_the_next_is_sent_then_only_configuring_lies_between(
    host: Host, bitstream: bytes
) -> None:
    first = host.measure(bitstream, CountPulses(window_us=150_000))
    host.wait_until_measuring()
    second = host.measure(circuit(32), CountPulses(window_us=20_000))
    host.reply(second, FrameType.ACCEPTED)
    status = host.status()

    assert (status.phase, status.sequence, status.waiting) == (Phase.MEASURING, first, 1)
    assert host.result(first).pulses == (1200,)
    result = host.result(second)
    assert result.pulses == (640,)
    assert result.configure_us <= result.gap_us < CONFIGURING_US


def test_given_windows_shorter_than_unpacking_when_many_are_queued_then_none_disturbs_another(
    host: Host,
) -> None:
    wanted = [(khz, host.measure(circuit(khz), CountPulses(window_us=2000))) for khz in [32, 8] * 4]

    for khz, sequence in wanted:
        assert abs(host.result(sequence).pulses[0] - 2 * khz) <= 1


def test_given_a_dense_bitstream_when_measured_behind_another_then_it_arrives_whole(
    host: Host, bitstream: bytes
) -> None:
    # Inflating it follows close behind the one that is still being sent.
    dense = bytearray(bitstream)
    chance = random.Random(5)
    for place in range(2000, 100_000):
        if chance.random() < 0.1:
            dense[place] ^= 1 << chance.randrange(8)
    short = CountPulses(window_us=1000)

    before, behind = host.measure(bitstream, short), host.measure(bytes(dense), short)

    assert host.result(before).outcome is Outcome.MEASURED
    assert host.result(behind).outcome is Outcome.NOT_CONFIGURED  # unpacked as announced, refused


def test_given_a_hundred_thousand_empty_blocks_when_unpacked_then_the_board_stays_awake(
    host: Host, bitstream: bytes
) -> None:
    empty = sum(0b10 << 10 * place for place in range(98_000)).to_bytes(98_000 * 10 // 8, "little")
    request = Measure(CountPulses(), len(bitstream), 0, Encoding.DEFLATE, empty)

    sequence = host.send(FrameType.MEASURE, request.pack())
    assert host.reply(sequence).type is FrameType.ACCEPTED
    aborted = host.send(FrameType.ABORT)

    assert host.result(sequence).outcome in (Outcome.ABORTED, Outcome.BITSTREAM_DAMAGED)
    assert host.reply(aborted).type is FrameType.ABORTED
    assert host.banner().reset == "power"


@only_emulated
def test_given_a_voltage_when_sampled_then_samples_come_in_order_at_the_rate(
    board: EmulatedBoard, host: Host, bitstream: bytes
) -> None:
    ramp = list(range(0, 4096, 5))
    board.command("voltage", input=3, values=ramp)

    sequence = host.measure(bitstream, TakeSamples(adc_input=3, rate_hz=50_000, count=800))
    samples: list[int] = []
    while len(samples) < 800:
        some = host.reply(sequence, FrameType.SAMPLES).payload
        assert some.first == len(samples)
        samples += some.values
    result = host.result(sequence)

    assert samples == ramp[:800]
    assert (result.outcome, result.samples) == (Outcome.MEASURED, 800)
    assert abs(result.window_us - 800 * 20) <= 40
    assert 15_000 < result.temperature_mc < 25_000


@only_emulated
@pytest.mark.parametrize("count", [1, 2, 300])
def test_given_the_highest_rate_when_sampled_again_and_again_then_each_has_its_samples(
    board: EmulatedBoard, host: Host, bitstream: bytes, count: int
) -> None:
    board.command("voltage", input=2, values=[7])
    sampling = TakeSamples(adc_input=2, rate_hz=500_000, count=count)

    sequences = [host.measure(bitstream, sampling) for _ in range(3)]

    assert [host.result(each).samples for each in sequences] == [count] * 3
    taken = [r.payload.values for r in host.unread if r.type is FrameType.SAMPLES]
    assert sum(taken, ()) == (7,) * (3 * count)
    assert host.banner().reset == "power"


@only_emulated
@pytest.mark.parametrize("count", [4, 100])
def test_given_quick_samples_before_when_sampled_slowly_then_that_takes_its_time(
    board: EmulatedBoard, host: Host, bitstream: bytes, count: int
) -> None:
    board.command("voltage", input=2, values=[7])
    host.result(host.measure(bitstream, TakeSamples(2, rate_hz=500_000, count=count)))
    slow = host.result(host.measure(bitstream, TakeSamples(2, rate_hz=20_000, count=count)))
    assert (count - 1) * 50 <= slow.window_us <= (count + 1) * 50


@only_emulated
def test_given_samples_and_pulses_in_turn_when_measured_then_both_are_right(
    board: EmulatedBoard, host: Host, bitstream: bytes
) -> None:
    board.command("voltage", input=2, values=[7])
    sampling = TakeSamples(adc_input=2, rate_hz=100_000, count=2048)
    wanted: list[Measurement] = [sampling, CountPulses(window_us=20_000), sampling]

    sequences = [host.measure(bitstream, measurement) for measurement in wanted]

    assert host.result(sequences[0]).samples == 2048
    assert host.result(sequences[1]).pulses == (160,)
    assert host.result(sequences[2]).samples == 2048
    taken = [r.payload.values for r in host.unread if r.type is FrameType.SAMPLES]
    assert sum(taken, ()) == (7,) * 4096


def test_given_nothing_to_do_when_asked_then_the_status_says_so(host: Host) -> None:
    status = host.status()

    assert status.phase is Phase.IDLE
    assert (status.sequence, status.waiting, status.skipped_bytes) == (0, 0, 0)
    assert status.free_bytes == host.banner().queue_bytes


def test_given_bitstreams_that_do_not_compress_when_the_queue_is_full_then_it_says_so(
    host: Host, bitstream: bytes
) -> None:
    noise = random.Random(1).randbytes(len(bitstream))
    assert len(zlib.compress(noise)) > len(noise)
    kept = [host.measure(bitstream, CountPulses(window_us=300_000)), host.measure(noise)]
    for sequence in kept:
        host.reply(sequence, FrameType.ACCEPTED)
    # The second one's bytes stay in the queue until it has been unpacked.
    replies = [host.reply(host.measure(noise)) for _ in range(2)]

    assert FrameType.REJECTED in [reply.type for reply in replies]
    assert host.result(kept[0]).outcome is Outcome.MEASURED
    assert host.result(kept[1]).outcome is Outcome.NOT_CONFIGURED
    assert host.count(bitstream).pulses == (160,)
