"""A board that says what it should not, in whole frames: each measurement still ends once at most,
with numbers that can be those of what was asked for, and the host's time and memory are bounded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icebus.schemas.boards.framed import Frame, FrameType
from icebus.schemas.boards.framed_replies import (
    BoardStatus,
    Outcome,
    Phase,
    Reason,
    Rejected,
    Result,
    Samples,
)
from icebus.schemas.boards.framed_requests import CountPulses, Encoding, Measure, TakeSamples
from icebus.schemas.errors import IcebusError, MeasurementFailed
from icebus.worker.firmware import Measured
from icebus.worker.firmware.framed import FramedReport
from icebus.worker.firmware.framed._effects import Effect, Ended, Send, Silent
from icebus.worker.firmware.framed._exchange import MOST_UNASKED, Exchange

FIRST = 7
PINS = CountPulses((27, 25), 50_000)
SAMPLES = TakeSamples(2, 10_000, 300)


def payload(measurement: CountPulses | TakeSamples) -> bytes:
    return Measure(measurement, 104_090, 0, Encoding.DEFLATE, b"x" * 40).pack()


def status(uptime_ms: int = 0, phase: Phase = Phase.MEASURING) -> bytes:
    return BoardStatus(100_000, 0, phase, True, 0, 0, uptime_ms, 30_000).pack()


def result(pulses: tuple[int, ...] = (5, 6), samples: int = 0, note: bytes = b"") -> bytes:
    told = Result(Outcome.MEASURED, True, pulses, samples, 50_000, 30_000, 1, 36_000, 36_006)
    return told.pack() + note


def samples(first: int, count: int, value: int = 100) -> bytes:
    return Samples(first, (value,) * count).pack()


@dataclass
class Host:
    """An exchange, the sequences that it has used, and what came of what it was given."""

    exchange: Exchange = field(default_factory=lambda: Exchange(FIRST))
    now: float = 1.0
    sent: list[Frame] = field(default_factory=list)
    ended: dict[str, Measured[FramedReport] | IcebusError] = field(default_factory=dict)
    silent: str = ""

    def give(self, key: str, measurement: CountPulses | TakeSamples = PINS) -> int:
        """Have it measured; gives the sequence of the request."""
        self.do(self.exchange.measure(self.now, key, payload(measurement)))
        return self.sent[-1].sequence

    def hear(self, kind: int, sequence: int, content: bytes = b"") -> None:
        if not self.silent:
            self.do(self.exchange.receive(self.now, Frame(kind, sequence, content).pack()))

    def wait(self) -> bool:
        """Let time pass until something is late; false when nothing will be."""
        due = self.exchange.due
        if self.silent or due is None:
            return False
        self.now = max(self.now, due)
        self.do(self.exchange.tick(self.now))
        return True

    def do(self, effects: list[Effect]) -> None:
        for effect in effects:
            assert not self.silent, "an effect after the last"
            match effect:
                case Send(data):
                    kind, sequence, length = struct.unpack_from("<xxBxII", data)
                    self.sent.append(Frame(kind, sequence, data[16 : 16 + length]))
                case Ended(key, how):
                    assert key not in self.ended, f"{key} ended twice"
                    self.ended[key] = how
                case Silent(how):
                    self.silent = how


@pytest.fixture
def host() -> Host:
    return Host()


def test_given_a_result_of_a_sequence_that_nobody_waits_for_then_it_is_nobodys(host: Host) -> None:
    sequence = host.give("m")
    host.hear(FrameType.ACCEPTED, sequence, status())
    for other in (0, sequence - 1, sequence + 1, 0xFFFFFFFF):
        host.hear(FrameType.RESULT, other, result())
    assert not host.ended


def test_given_a_result_twice_then_the_first_one_stands(host: Host) -> None:
    sequence = host.give("m")
    host.hear(FrameType.ACCEPTED, sequence, status())
    host.hear(FrameType.RESULT, sequence, result((5, 6)))
    host.hear(FrameType.RESULT, sequence, result((7, 8)))
    how = host.ended["m"]
    assert isinstance(how, Measured)
    assert how.report.result.pulses == (5, 6)


@pytest.mark.parametrize("pulses", [(), (5,), (5, 6, 7), (5, 6, 7, 8)])
def test_given_another_number_of_pins_then_there_is_no_result(
    host: Host, pulses: tuple[int, ...]
) -> None:
    sequence = host.give("m")
    host.hear(FrameType.ACCEPTED, sequence, status())
    host.hear(FrameType.RESULT, sequence, result(pulses))
    assert isinstance(host.ended["m"], MeasurementFailed)


def test_given_more_pins_than_there_can_be_then_the_board_is_not_understood(host: Host) -> None:
    sequence = host.give("m", CountPulses((27, 25, 21, 19), 50_000))
    host.hear(FrameType.ACCEPTED, sequence, status())
    said = bytearray(result((1, 2, 3, 4)))
    said[2] = 200
    host.hear(FrameType.RESULT, sequence, bytes(said))
    assert "200 pins" in host.silent
    assert not host.ended


@pytest.mark.parametrize("taken", [0, 2, 256])
def test_given_fewer_samples_than_were_asked_for_then_there_is_no_result(
    host: Host, taken: int
) -> None:
    sequence = host.give("m", SAMPLES)
    host.hear(FrameType.ACCEPTED, sequence, status())
    if taken:
        host.hear(FrameType.SAMPLES, sequence, samples(0, taken))
    host.hear(FrameType.RESULT, sequence, result((), taken))
    assert isinstance(host.ended["m"], MeasurementFailed)


def test_given_samples_without_end_or_out_of_order_then_no_more_are_kept_than_asked_for(
    host: Host,
) -> None:
    sequence = host.give("m", SAMPLES)
    host.hear(FrameType.ACCEPTED, sequence, status())
    host.hear(FrameType.SAMPLES, sequence, samples(256, 44))
    for first in range(0, 60_000, 250):
        host.hear(FrameType.SAMPLES, sequence, samples(first, 250))
    host.hear(FrameType.SAMPLES, sequence, samples(250, 50, 200))
    host.hear(FrameType.RESULT, sequence, result((), 300))
    how = host.ended["m"]
    assert isinstance(how, Measured)
    assert how.report.samples == (100,) * 250 + (200,) * 50


def test_given_samples_of_what_counts_pulses_then_they_are_not_kept(host: Host) -> None:
    sequence = host.give("m")
    host.hear(FrameType.ACCEPTED, sequence, status())
    host.hear(FrameType.SAMPLES, sequence, samples(0, 250))
    host.hear(FrameType.RESULT, sequence, result())
    how = host.ended["m"]
    assert isinstance(how, Measured)
    assert how.report.samples == ()


@pytest.mark.parametrize("kind", [FrameType.BOARD_STATUS, FrameType.ABORTED, FrameType.RESULT, 99])
def test_given_a_flood_of_what_nobody_asked_for_then_the_board_is_silent_to_us(
    host: Host, kind: int
) -> None:
    host.give("m")
    said = result() if kind == FrameType.RESULT else status()
    for _ in range(MOST_UNASKED // 40):
        host.hear(kind, 12345, said)
    assert "nobody asked for" in host.silent
    assert len(host.sent) == 1, "it is not answered either"


def test_given_an_hour_of_what_was_asked_for_then_that_is_no_flood(host: Host) -> None:
    sequence = host.give("m", CountPulses((27, 25), 60_000_000))
    host.hear(FrameType.ACCEPTED, sequence, status())
    for number in range(MOST_UNASKED // 10):
        key, measured = f"m{number}", sequence
        sequence = host.give(key, SAMPLES)
        host.hear(FrameType.ACCEPTED, sequence, status())
        host.hear(FrameType.RESULT, measured, result((5, 6) if not number else (), 0))
    assert not host.silent


def test_given_what_it_accepts_unasked_again_and_again_then_it_is_not_aborted_for_ever(
    host: Host,
) -> None:
    sequence = host.give("long")
    host.hear(FrameType.ACCEPTED, sequence, status())
    host.give("m")
    for number in range(50):
        host.hear(FrameType.ACCEPTED, 1000 + number, status())
        if host.sent[-1].type == FrameType.ABORT:
            host.hear(FrameType.ABORTED, host.sent[-1].sequence, status())
        else:
            host.hear(FrameType.ACCEPTED, host.sent[-1].sequence, status())
    assert host.silent or set(host.ended) == {"long", "m"}
    assert len(host.sent) < 50


@pytest.mark.parametrize("kind", [FrameType.STATUS, FrameType.ABORT])
def test_given_a_question_that_is_rejected_each_time_then_it_is_not_asked_for_ever(
    host: Host, kind: FrameType
) -> None:
    if kind == FrameType.STATUS:
        host.do(host.exchange.ask_status(host.now))
    else:
        sequence = host.give("m")
        host.hear(FrameType.ACCEPTED, 1000, status())
        host.hear(FrameType.ACCEPTED, sequence, status())
    for _ in range(20):
        assert host.sent[-1].type == kind
        host.hear(FrameType.REJECTED, host.sent[-1].sequence, Rejected(Reason.UNKNOWN_TYPE).pack())
        if host.silent:
            break
    assert "did not reply" in host.silent


@pytest.mark.parametrize("kind", [FrameType.ABORTED, FrameType.BOARD_STATUS])
def test_given_a_reply_of_another_type_then_the_measurement_is_not_forgotten(
    host: Host, kind: FrameType
) -> None:
    host.hear(kind, host.give("m"), status())
    assert "replied to MEASURE" in host.silent


CONTENTS = st.one_of(
    st.builds(status, st.integers(0, 0xFFFFFFFF), st.sampled_from(list(Phase))),
    st.builds(
        result,
        st.lists(st.integers(0, 0xFFFFFFFF), max_size=4).map(tuple),
        st.integers(0, 400),
        st.binary(max_size=700),
    ),
    st.builds(samples, st.integers(0, 400), st.integers(0, 256), st.integers(0, 5000)),
    st.builds(
        lambda reason, detail: Rejected(reason, detail).pack(),
        st.sampled_from(list(Reason)),
        st.integers(0, 0xFFFFFFFF),
    ),
    st.binary(max_size=200),
)
KINDS = st.sampled_from(list(FrameType)) | st.integers(0, 255)
WHOSE = st.sampled_from(["last", "some", "next", "none", "odd"])


@settings(max_examples=400, deadline=None)
@given(
    st.randoms(use_true_random=False),
    st.lists(
        st.tuples(st.sampled_from(["hear"] * 6 + ["wait", "give"]), KINDS, WHOSE, CONTENTS),
        max_size=60,
    ),
)
def test_given_any_lies_then_each_ends_once_at_most_and_with_what_it_can_be(
    chance: Random, steps: list[tuple[str, int, str, bytes]]
) -> None:
    host = Host()
    asked: dict[str, CountPulses | TakeSamples] = {}
    for number, (what, kind, whose, content) in enumerate(steps):
        if host.silent:
            break
        if what == "give" or not number:
            key = f"m{number}"
            asked[key] = PINS if chance.random() < 0.5 else SAMPLES
            host.do(host.exchange.measure(host.now, key, payload(asked[key])))
        elif what == "wait":
            host.wait()
        else:
            used = [each.sequence for each in host.sent]
            sequence = {
                "last": used[-1],
                "some": chance.choice(used),
                "next": used[-1] % 0xFFFFFFFF + 1,
                "none": 0,
                "odd": 0xDEADBEEF,
            }[whose]
            host.hear(kind, sequence, content)
    for _ in range(400):
        if not host.wait():
            break
    else:
        raise AssertionError("it does not end")

    assert host.silent or set(host.ended) == set(asked)
    for key, how in host.ended.items():
        if isinstance(how, Measured) and how.report.result.outcome is Outcome.MEASURED:
            counts = isinstance(asked[key], CountPulses)
            assert len(how.report.result.pulses) == (2 if counts else 0)
            assert len(how.report.samples) == (0 if counts else 300)
        if isinstance(how, Measured):
            assert how.report.result.note.isprintable()
        else:
            assert how.message.isprintable()
