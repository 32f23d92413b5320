"""The firmware ``icebus`` as a state machine: no board, no clock, no simulator."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from statistics import mean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.rack.environment import EnvironmentSettings
from icebus.rack.firmware import (
    Evaluation,
    Faulty,
    Firmware,
    FirmwareSettings,
    Reset,
    Restart,
    RunsOn,
    Step,
)
from icebus.rack.firmware.framed import Framed
from icebus.rack.verdict import Verdict
from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.framed import Frame, FrameParser, FrameType
from icebus.schemas.boards.framed_replies import (
    Banner,
    BoardStatus,
    Outcome,
    Phase,
    Reason,
    Rejected,
    Result,
    Samples,
)
from icebus.schemas.boards.framed_requests import (
    CountPulses,
    Encoding,
    Measure,
    Measurement,
    TakeSamples,
)
from icebus.schemas.boards.rack import Fault

BITSTREAM = bytes(i * 7 % 251 for i in range(104_090))
PARSERS: dict[int, Any] = {
    FrameType.BANNER: Banner.parse,
    FrameType.ACCEPTED: BoardStatus.parse,
    FrameType.BOARD_STATUS: BoardStatus.parse,
    FrameType.ABORTED: BoardStatus.parse,
    FrameType.REJECTED: Rejected.parse,
    FrameType.RESULT: Result.parse,
    FrameType.SAMPLES: Samples.parse,
}
LOAD = 0.0359 * 104_090 / 104_096
REAL = FirmwareSettings()
FAST = FirmwareSettings(load=0.0, unpack=0.0)


def circuit(hertz: int) -> bytes:
    """What :func:`rises` takes for a circuit that rises so often a second."""
    return hertz.to_bytes(4, "little") + BITSTREAM[4:]


def rises(evaluation: Evaluation) -> Verdict:
    hertz = int.from_bytes(evaluation.bitstream[:4], "little")
    return Verdict.of(*[hertz * evaluation.cycles // 48_000_000] * len(evaluation.pins))


@dataclass
class Bench:
    """A firmware, its host and its simulator, in a time of their own."""

    firmware: Firmware
    simulate: Callable[[Evaluation], Verdict] = rises
    takes: float = 0.001
    now: float = 100.0
    frames: list[Frame] = field(default_factory=list)
    restarts: list[Restart | None] = field(default_factory=list)
    simulating: list[tuple[float, Evaluation]] = field(default_factory=list)
    garbage: bytes = b""
    at: dict[int, float] = field(default_factory=dict)
    _sequence: int = 0
    _parser: FrameParser = field(default_factory=FrameParser)

    def __post_init__(self) -> None:
        self.do(self.firmware.start(self.now))

    def do(self, step: Step) -> None:
        for frame in self._parser.feed(step.output):
            self.frames.append(frame)
            if frame.type == FrameType.RESULT:
                self.at[frame.sequence] = self.now
        if step.restart:
            self.restarts.append(step.restart)
        self.simulating += [(self.now + self.takes, each) for each in step.evaluations]

    def write(self, data: bytes) -> None:
        self.do(self.firmware.receive(data, self.now))

    def send(self, kind: int, payload: bytes = b"", sequence: int | None = None) -> int:
        if sequence is None:
            self._sequence += 1
            sequence = self._sequence
        self.write(Frame(kind, sequence, payload).pack())
        return sequence

    def measure(self, bitstream: bytes, measurement: Measurement | None = None) -> int:
        wanted = measurement or CountPulses(window_us=20_000)
        return self.send(FrameType.MEASURE, Measure.of(bitstream, wanted).pack())

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while True:
            deadline = self.firmware.deadline
            simulated = min(self.simulating, default=None, key=lambda each: each[0])
            due = [each for each in (deadline, simulated and simulated[0]) if each is not None]
            if not due or min(due) > end:
                self.now = end
                return
            self.now = max(self.now, min(due))
            if simulated is not None and simulated[0] == min(due):
                self.simulating.remove(simulated)
                verdict = self.simulate(simulated[1])
                self.do(self.firmware.measured(simulated[1], verdict, self.now))
            else:
                self.do(self.firmware.wake(self.now))

    def replies(self, sequence: int, kind: FrameType | None = None) -> list[Any]:
        return [
            PARSERS[frame.type](frame.payload)
            for frame in self.frames
            if frame.sequence == sequence and kind in (None, frame.type)
        ]

    def result(self, sequence: int) -> Result:
        [result] = self.replies(sequence, FrameType.RESULT)
        assert isinstance(result, Result)
        return result

    def status(self) -> BoardStatus:
        [status] = self.replies(self.send(FrameType.STATUS))
        assert isinstance(status, BoardStatus)
        return status


def bench(settings: FirmwareSettings = REAL, seed: int = 0, **more: Any) -> Bench:
    return Bench(Framed(settings, Random(seed)), **more)


@pytest.mark.parametrize("chip", list(Chip))
def test_given_a_board_when_asked_then_its_banner_says_what_it_is(chip: Chip) -> None:
    runs_on = RunsOn("E661", chip, "0.3.1", Reset.REQUEST)
    host = Bench(Framed(FirmwareSettings(), Random(0), runs_on))

    [banner] = host.replies(host.send(FrameType.HELLO))

    assert (banner.protocol, banner.firmware, banner.version) == (1, "icebus", "0.3.1")
    assert (banner.id, banner.chip, banner.reset) == ("E661", chip.value, "request")
    assert (banner.queue_bytes, banner.queue_length, banner.pins[0]) == (122_880, 64, 27)


def test_given_a_circuit_when_measured_then_it_takes_what_a_real_board_takes() -> None:
    host = bench()

    sequence = host.measure(circuit(8000), CountPulses((27, 25), 50_000))
    host.run(1)

    result = host.result(sequence)
    assert (result.outcome, result.cdone, result.pulses) == (Outcome.MEASURED, True, (400, 400))
    assert (result.window_us, result.inflate_us, result.gap_us) == (50_000, 15_400, 0)
    assert result.configure_us == round(LOAD * 1e6)
    assert host.at[sequence] == pytest.approx(100 + 0.0154 + LOAD + 0.05)
    assert (result.estimate, result.note) == (False, "")


@pytest.mark.parametrize(("window", "rate"), [(1.0, 0.965), (0.05, 11.64)])
def test_given_two_queued_when_measuring_on_and_on_then_only_configuring_lies_between(
    window: float, rate: float
) -> None:
    host = bench()
    measurement = CountPulses(window_us=round(window * 1e6))
    waiting = [host.measure(circuit(1000), measurement) for _ in range(3)]
    done: list[int] = []
    while len(done) < 20:
        host.run(0.001)
        if host.replies(waiting[0], FrameType.RESULT):
            done.append(waiting.pop(0))
            waiting.append(host.measure(circuit(1000), measurement))

    seconds = host.at[done[-1]] - host.at[done[0]]
    assert 19 / seconds == pytest.approx(rate, rel=0.005)
    for sequence in done[1:]:
        result = host.result(sequence)
        assert result.gap_us == result.configure_us == round(LOAD * 1e6)


def test_given_a_rack_that_wakes_up_late_when_it_comes_round_then_no_time_is_lost() -> None:
    host = bench()
    sequences = [host.measure(circuit(1000)) for _ in range(3)]
    host.run(0.03)

    host.now += 5
    host.do(host.firmware.wake(host.now))
    host.run(0)

    results = [host.result(sequence) for sequence in sequences]
    assert [result.pulses for result in results] == [(20,)] * 3
    assert [result.gap_us for result in results[1:]] == [round(LOAD * 1e6)] * 2


def test_given_a_simulation_that_takes_longer_than_its_window_then_the_result_waits_for_it() -> (
    None
):
    host = bench(takes=3.0)
    first, second = host.measure(circuit(1000)), host.measure(circuit(2000))

    host.run(2.9)
    assert host.status().phase is Phase.MEASURING
    host.run(1)

    assert (host.result(first).pulses, host.result(second).pulses) == ((20,), (40,))


@pytest.mark.parametrize(
    ("verdict", "outcome", "cdone"),
    [
        (Verdict.refused(), Outcome.NOT_CONFIGURED, False),
        (Verdict.unsupported("uses a PLL"), Outcome.UNSUPPORTED, True),
        (Verdict.unavailable("no chip database"), Outcome.UNAVAILABLE, True),
    ],
)
@pytest.mark.parametrize("takes", [0.001, 0.06, 3.0])
def test_given_no_count_when_measured_then_the_result_says_why_and_the_next_is_right(
    verdict: Verdict, outcome: Outcome, cdone: bool, takes: float
) -> None:
    host = bench(takes=takes)
    host.simulate = lambda asked: rises(asked) if asked.bitstream[0] else verdict
    bad, good = host.measure(circuit(0)), host.measure(circuit(1000))

    host.run(10)

    result = host.result(bad)
    assert (result.outcome, result.cdone, result.note) == (outcome, cdone, verdict.note)
    assert (result.window_us, result.pulses) == (0, ())
    assert host.result(good).pulses == (20,)


def test_given_an_estimate_when_measured_then_the_result_says_so_and_why() -> None:
    host = bench(simulate=lambda _: Verdict.of(7, exact=False, note="loops"))

    sequence = host.measure(BITSTREAM)
    host.run(1)

    assert (host.result(sequence).estimate, host.result(sequence).note) == (True, "loops")


GOOD = Measure.of(BITSTREAM, CountPulses(window_us=20_000))


@pytest.mark.parametrize(
    "wrong",
    [
        replace(GOOD, bitstream_crc=GOOD.bitstream_crc ^ 1),
        replace(GOOD, encoded=GOOD.encoded[:-100]),
        replace(GOOD, encoded=b"\x07" + GOOD.encoded[1:]),
        replace(GOOD, bitstream_size=GOOD.bitstream_size - 1),
        replace(GOOD, encoding=Encoding.STORED),
    ],
    ids=["checksum", "cut", "bits", "size", "stored"],
)
def test_given_bytes_that_are_not_what_was_announced_then_the_fpga_is_not_touched(
    wrong: Measure,
) -> None:
    host = bench()

    damaged = host.send(FrameType.MEASURE, wrong.pack())
    good = host.measure(circuit(1000))
    host.run(1)

    result = host.result(damaged)
    assert result.outcome is Outcome.BITSTREAM_DAMAGED
    assert (result.configure_us, result.window_us) == (0, 0)
    assert host.result(good).pulses == (20,)


def test_given_a_stored_bitstream_when_measured_then_it_counts_the_same() -> None:
    data = circuit(1000)
    stored = Measure(CountPulses(window_us=20_000), len(data), zlib.crc32(data), Encoding(0), data)
    host = bench()

    sequence = host.send(FrameType.MEASURE, stored.pack())
    host.run(1)

    assert host.result(sequence).pulses == (20,)


@given(st.lists(st.integers(0, 4000), max_size=12))
def test_given_requests_when_they_come_in_pieces_of_any_size_then_the_replies_are_the_same(
    cuts: Any,
) -> None:
    data = (
        b"\xb1noise"
        + Frame(FrameType.MEASURE, 5, Measure.of(circuit(1000), CountPulses()).pack()).pack()
        + Frame(FrameType.HELLO, 6).pack()
        + Frame(0x55, 7, b"unknown").pack()
        + Frame(FrameType.STATUS, 8).pack()
    )
    host = bench()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        if end > start:
            host.write(data[start:end])

    assert [(frame.type, frame.sequence) for frame in host.frames] == [
        (FrameType.REJECTED, 0),
        (FrameType.ACCEPTED, 5),
        (FrameType.BANNER, 6),
        (FrameType.REJECTED, 7),
        (FrameType.BOARD_STATUS, 8),
    ]


@given(st.data())
def test_given_what_it_wants_when_no_more_is_sent_then_all_is_taken_frame_by_frame(
    data: Any,
) -> None:
    requests = b"".join(
        Frame(kind, number + 1, b"" if kind != FrameType.MEASURE else GOOD.pack()).pack()
        for number, kind in enumerate(
            data.draw(st.lists(st.sampled_from([FrameType.STATUS, FrameType.MEASURE]), max_size=4))
        )
    )
    host, rest = bench(), requests
    while rest:
        wants = host.firmware.wants
        assert wants > 0
        host.write(rest[:wants])
        rest = rest[wants:]

    assert not host.firmware.receiving


def test_given_more_than_the_queue_holds_then_it_says_how_much_is_free_and_goes_on() -> None:
    noise = Random(1).randbytes(104_090)
    host = bench()
    first = host.measure(noise, CountPulses(window_us=300_000))
    host.run(0.1)
    kept = host.measure(noise)

    [rejected] = host.replies(host.measure(noise))

    assert rejected == Rejected(Reason.QUEUE_FULL, 122_880 - 104_090)
    host.run(1)
    assert host.result(first).outcome is host.result(kept).outcome is Outcome.MEASURED


def test_given_as_many_as_may_wait_then_one_more_is_rejected_until_there_is_a_result() -> None:
    host = bench()
    sequences = [host.measure(circuit(1), CountPulses(window_us=1000)) for _ in range(64)]

    [rejected] = host.replies(host.measure(circuit(1)))

    assert rejected.reason is Reason.QUEUE_FULL
    host.run(20)
    assert {host.result(sequence).outcome for sequence in sequences} == {Outcome.MEASURED}
    assert list(host.at) == sequences


def test_given_a_host_that_falls_silent_when_it_is_owed_results_then_they_are_aborted() -> None:
    host = bench()
    sequence = host.measure(circuit(1000), CountPulses(window_us=60_000_000))

    host.run(9.9)
    assert host.replies(sequence, FrameType.RESULT) == []
    host.run(0.2)

    result = host.result(sequence)
    assert result.outcome is Outcome.ABORTED
    assert 9_900_000 < result.window_us < 10_000_000


def test_given_a_host_that_leaves_then_all_is_forgotten_also_the_frame_that_had_begun() -> None:
    host = bench()
    host.measure(circuit(1000))
    host.write(Frame(FrameType.MEASURE, 9, GOOD.pack()).pack()[:300])
    host.do(host.firmware.host_closed(host.now))
    host.frames.clear()

    status = host.status()
    host.run(30)

    assert (status.waiting, status.phase, status.sequence) == (0, Phase.IDLE, 0)
    assert [frame.type for frame in host.frames] == [FrameType.BOARD_STATUS]


@pytest.mark.parametrize(
    ("asked", "into"),
    [(FrameType.BOOTLOADER, Restart.BOOTLOADER), (FrameType.RESTART, Restart.FIRMWARE)],
)
def test_given_a_wish_to_restart_then_it_is_accepted_before_the_chip_does(
    asked: FrameType, into: Restart
) -> None:
    host = bench()
    sequence = host.send(asked)

    assert host.frames[-1].type == FrameType.ACCEPTED
    assert host.frames[-1].sequence == sequence
    host.do(host.firmware.host_closed(host.now))
    host.run(0.019)
    assert host.restarts == []
    host.run(0.002)
    assert host.restarts[0] is into


# --- what disturbs measurements -------------------------------------------------------------------


def disturbed(**environment: float) -> FirmwareSettings:
    return replace(FAST, environment=EnvironmentSettings(**environment))


def windows(settings: FirmwareSettings, seed: int) -> list[tuple[int, int]]:
    host = bench(settings, seed)
    sequences = [host.measure(circuit(1_000_000), CountPulses(window_us=50_000)) for _ in range(20)]
    host.run(5)
    return [(host.result(each).window_us, host.result(each).pulses[0]) for each in sequences]


def test_given_jitter_when_measured_then_windows_differ_and_results_say_how_long_they_were() -> (
    None
):
    settings = disturbed(jitter=50e-6)

    measured = windows(settings, 1)

    assert len({window for window, _ in measured}) > 10
    assert abs(mean(window for window, _ in measured) - 50_000) < 60
    assert all(abs(window - pulses) <= 1 for window, pulses in measured)  # 1 MHz
    assert measured == windows(settings, 1)
    assert measured != windows(settings, 2)


def test_given_a_temperature_that_drifts_then_only_circuits_with_delays_follow_it() -> None:
    settings = disturbed(temperature=30, drift=10, drift_period=100, slowdown=0.002)
    host = bench(settings)
    for delays in (False, True):
        host.simulate = lambda _, delays=delays: Verdict.of(1_000_000, delays=delays)  # type: ignore[misc]
        results = []
        for _ in range(20):
            sequence = host.measure(circuit(1))
            host.run(5)
            results.append(host.result(sequence))
        celsius = [result.temperature_mc / 1000 for result in results]
        assert min(celsius) == pytest.approx(20, abs=0.5)
        assert max(celsius) == pytest.approx(40, abs=0.5)
        for each, of in zip(results, celsius, strict=True):
            expected = 1_000_000 * (1 - 0.002 * (of - 25)) if delays else 1_000_000
            assert each.pulses[0] == pytest.approx(expected, rel=0.002)


def test_given_nothing_asked_for_when_measured_then_nothing_is_disturbed() -> None:
    assert windows(FAST, 1) == [(50_000, 50_000)] * 20


def test_given_windows_that_pass_faster_then_whole_ones_are_counted_and_told() -> None:
    host = bench(replace(FAST, speedup=20))
    sequence, aborted = (host.measure(circuit(1000), CountPulses()) for _ in range(2))

    host.run(0.075)
    host.send(FrameType.ABORT)

    result = host.result(sequence)
    assert (result.pulses, result.window_us) == ((1000,), 1_000_000)
    assert host.at[sequence] == pytest.approx(100.05)
    assert host.result(aborted).window_us == pytest.approx(500_000, rel=0.01)


# --- samples --------------------------------------------------------------------------------------


def samples_of(hertz: int, seed: int = 0, count: int = 500) -> tuple[list[int], Result]:
    host = bench(FAST, seed)
    sequence = host.measure(circuit(hertz), TakeSamples(2, 10_000, count))
    host.run(1)
    frames = host.replies(sequence, FrameType.SAMPLES)
    assert host.frames[-1].type == FrameType.RESULT
    assert [some.first for some in frames] == list(range(0, count, 256))
    return [value for some in frames for value in some.values], host.result(sequence)


def variation(values: list[int]) -> float:
    return mean(abs(after - before) for before, after in itertools.pairwise(values))


def test_given_a_pin_when_sampled_then_samples_come_in_order_and_say_that_they_are_synthetic() -> (
    None
):
    values, result = samples_of(2000)

    assert (len(values), result.samples, result.pulses) == (500, 500, ())
    assert result.window_us == 50_000
    assert (result.estimate, result.note) == (True, "the voltage is synthetic")
    assert 0 <= min(values) < 500
    assert 3500 < max(values) <= 4095


def test_given_circuits_of_different_rates_when_sampled_then_their_variation_tells_them_apart() -> (
    None
):
    still, slow, fast, faster = (variation(samples_of(hz)[0]) for hz in (0, 2345, 8123, 32_456))

    assert still < 10
    assert faster > 5 * still
    assert slow > 1.3 * fast > 1.3 * 1.3 * faster


def test_given_a_seed_when_sampled_then_it_is_the_same_again() -> None:
    assert samples_of(2000, 1) == samples_of(2000, 1)
    assert samples_of(2000, 1)[0] != samples_of(2000, 2)[0]


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.WEDGE, Fault.STALL])
def test_given_a_board_that_stands_still_when_asked_then_it_says_nothing(fault: Fault) -> None:
    firmware = Faulty(Framed(FAST, Random(0)), fault, Random(1))
    host = Bench(firmware)
    rest = Frame(FrameType.MEASURE, 1, GOOD.pack()).pack()
    taken = 0
    while rest and (wants := firmware.wants):
        host.write(rest[:wants])
        taken += len(rest[:wants])
        rest = rest[wants:]
    host.run(5)

    assert host.frames == []
    assert taken == (16 + len(GOOD.pack()) // 2 if fault is Fault.STALL else 0)
    assert firmware.wants == 0


def test_given_a_board_that_misreports_then_frames_are_sound_but_no_result_can_be_read() -> None:
    host = Bench(Faulty(Framed(FAST, Random(0)), Fault.MISREPORT, Random(1)))
    sequence = host.measure(circuit(1))
    host.run(1)

    assert [frame.type for frame in host.frames] == [FrameType.ACCEPTED, FrameType.RESULT]
    with pytest.raises(ValueError, match="238"):
        host.result(sequence)


def test_given_a_board_that_says_garbage_then_no_frame_is_left() -> None:
    host = Bench(Faulty(Framed(FAST, Random(0)), Fault.GARBAGE, Random(1)))
    host.measure(circuit(1))
    host.run(1)

    assert host.frames == []


def test_given_a_board_that_babbles_then_it_takes_nothing_and_never_ends() -> None:
    firmware = Faulty(Framed(FAST, Random(0)), Fault.BABBLE, Random(1))

    assert firmware.wants == 0
    assert not firmware.waits_for_host
    assert firmware.wake(1.0).output.startswith(b"babble")
    assert firmware.deadline is not None
