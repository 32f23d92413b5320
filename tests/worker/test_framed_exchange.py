"""What is said to a board with our own firmware, whatever happens to the bytes on the way.

One promise matters most: a measurement ends once, and never with the numbers of another.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.worker.framed_board import FramedBoard, pulses_of, samples_of

from icebus.schemas.boards.framed import NO_SEQUENCE, Frame, FrameType
from icebus.schemas.boards.framed_replies import Outcome
from icebus.schemas.boards.framed_requests import CountPulses, Encoding, Measure, TakeSamples
from icebus.schemas.errors import (
    BitstreamUnsupported,
    DecoderUnavailable,
    IcebusError,
    MeasurementFailed,
    MeasurementUnsupported,
)
from icebus.worker.firmware import Measured
from icebus.worker.firmware.framed import FramedReport
from icebus.worker.firmware.framed._effects import Began, Effect, Ended, Send, Silent
from icebus.worker.firmware.framed._exchange import MOST_AT_ONCE, Exchange
from icebus.worker.firmware.framed._measuring import ATTEMPTS

PULSES = CountPulses((27,), 50_000)
LATENCY = 0.001


def encoded(key: str, size: int = 40) -> bytes:
    return key.encode().ljust(size, b".")


def payload(key: str, size: int = 40, measurement: CountPulses | TakeSamples = PULSES) -> bytes:
    return Measure(measurement, 104_090, 0, Encoding.DEFLATE, encoded(key, size)).pack()


@dataclass
class Line:
    """An exchange and a board, with virtual time and a line that may damage what it carries."""

    board: FramedBoard = field(default_factory=FramedBoard)
    exchange: Exchange = field(default_factory=lambda: Exchange(7))
    chance: Random = field(default_factory=lambda: Random(1))
    damage: float = 0.0
    now: float = 1.0
    ended: dict[str, Measured[FramedReport] | IcebusError] = field(default_factory=dict)
    began: list[str] = field(default_factory=list)
    silent: str = ""
    sent: int = 0
    to_give: list[tuple[str, bytes]] = field(default_factory=list)

    def give(self, *measurements: tuple[str, bytes]) -> None:
        self.to_give += measurements
        self.fill()

    def fill(self) -> None:
        while self.to_give and self.exchange.wants_more and not self.silent:
            self.do(self.exchange.measure(self.now, *self.to_give.pop(0)))

    def do(self, effects: list[Effect]) -> None:
        for effect in effects:
            assert not self.silent, "an effect after the last"
            match effect:
                case Send(data):
                    self.sent += len(data)
                    self.board.receive(self.now + LATENCY, self.carry(data))
                case Began(key):
                    self.began.append(key)
                case Ended(key, how):
                    assert key not in self.ended, f"{key} ended twice"
                    self.ended[key] = how
                case Silent(how):
                    self.silent = how

    def carry(self, data: bytes) -> bytes:
        """What arrives of ``data``."""
        if not data or self.chance.random() >= self.damage:
            return data
        at = self.chance.randrange(len(data))
        match self.chance.choice(["flip", "lose", "cut", "insert"]):
            case "flip":
                return (
                    data[:at] + bytes([data[at] ^ 1 << self.chance.randrange(8)]) + data[at + 1 :]
                )
            case "lose":
                return data[:at] + data[at + self.chance.randrange(1, 40) :]
            case "cut":
                return data[:at]
            case _:
                return data[:at] + self.chance.randbytes(self.chance.randrange(1, 40)) + data[at:]

    def step(self) -> bool:
        """Let the next thing happen; false when nothing will."""
        if self.silent:
            return False
        dues = [due for due in (self.board.due, self.exchange.due) if due is not None]
        if self.board.said:
            said, self.board.said = bytes(self.board.said), bytearray()
            arrived = self.carry(said)
            while arrived:
                cut = self.chance.randrange(1, len(arrived) + 1)
                self.do(self.exchange.receive(self.now, arrived[:cut]))
                arrived = arrived[cut:]
        elif dues:
            self.now = max(self.now, min(dues))
            self.board.advance(self.now)
            self.do(self.exchange.tick(self.now))
        else:
            return False
        self.fill()
        return True

    def run(self, steps: int = 5000) -> None:
        for _ in range(steps):
            if not self.step():
                return
        raise AssertionError("it does not end")


def measured(line: Line, key: str) -> Measured[FramedReport]:
    how = line.ended[key]
    assert isinstance(how, Measured), how
    return how


def pulses(line: Line, key: str) -> tuple[int, ...]:
    return measured(line, key).report.result.pulses


@pytest.fixture
def line() -> Line:
    return Line()


def test_given_measurements_then_each_ends_with_its_own_numbers_in_order(line: Line) -> None:
    keys = [f"m{number}" for number in range(20)]
    line.give(*((key, payload(key)) for key in keys))
    line.run()
    assert list(line.ended) == line.began == keys
    assert all(pulses(line, key) == (pulses_of(encoded(key)),) for key in keys)
    assert line.exchange.idle


def test_given_many_then_several_wait_on_the_board_but_not_all(line: Line) -> None:
    line.give(*((f"m{number}", payload(f"m{number}")) for number in range(10)))
    for _ in range(MOST_AT_ONCE):
        line.step()
    assert len(line.board.owed) == MOST_AT_ONCE


def test_given_long_bitstreams_then_two_at_a_time_are_given(line: Line) -> None:
    line.give(*((f"m{number}", payload(f"m{number}", 90_000)) for number in range(4)))
    line.step()
    assert len(line.board.owed) == 2
    line.run()
    assert len(line.ended) == 4


def test_given_a_board_whose_queue_is_full_then_it_is_asked_again_after_a_result() -> None:
    line = Line(FramedBoard(queue_bytes=50))
    line.give(*((f"m{number}", payload(f"m{number}")) for number in range(6)))
    line.run()
    assert all(pulses(line, key) == (pulses_of(encoded(key)),) for key in line.ended)
    assert len(line.ended) == 6


def test_given_what_never_fits_on_the_board_then_it_fails_and_the_others_are_measured() -> None:
    line = Line(FramedBoard(queue_bytes=50))
    line.give(("long", payload("long", 60)), ("short", payload("short")))
    line.run()
    assert isinstance(line.ended["long"], MeasurementFailed)
    assert pulses(line, "short") == (pulses_of(encoded("short")),)


def test_given_samples_then_all_come_with_their_result(line: Line) -> None:
    line.give(("s", payload("s", measurement=TakeSamples(2, 10_000, 600))))
    line.run()
    assert measured(line, "s").report.samples == samples_of(encoded("s"), 600)


def test_given_a_window_of_a_minute_then_the_board_is_kept_waiting_for_it(line: Line) -> None:
    line.give(*((key, payload(key, measurement=CountPulses((27,), 60_000_000))) for key in "ab"))
    line.run()
    assert [pulses(line, key) for key in "ab"] == [(pulses_of(encoded(key)),) for key in "ab"]
    assert measured(line, "b").window == pytest.approx(60.036, abs=0.01)


def test_given_a_fpga_that_is_not_configured_then_that_is_a_measurement(line: Line) -> None:
    line.board.outcomes.append((Outcome.NOT_CONFIGURED, ""))
    line.give(("m", payload("m")))
    line.run()
    assert measured(line, "m").report.result.outcome is Outcome.NOT_CONFIGURED


@pytest.mark.parametrize(
    ("outcome", "error"),
    [(Outcome.UNSUPPORTED, BitstreamUnsupported), (Outcome.UNAVAILABLE, DecoderUnavailable)],
)
def test_given_a_virtual_board_that_can_not_know_then_its_note_is_the_error(
    line: Line, outcome: Outcome, error: type[IcebusError]
) -> None:
    line.board.outcomes.append((outcome, "it has a PLL"))
    line.give(("m", payload("m")))
    line.run()
    how = line.ended["m"]
    assert isinstance(how, error)
    assert how.message == "it has a PLL"


def test_given_pins_that_the_board_has_not_then_that_one_fails_and_the_board_is_well(
    line: Line,
) -> None:
    odd = payload("odd", measurement=CountPulses((42,), 50_000))
    line.give(("odd", odd), ("m", payload("m")))
    line.run()
    how = line.ended["odd"]
    assert isinstance(how, MeasurementUnsupported)
    assert how.details == {"argument": "pins"}
    assert pulses(line, "m") == (pulses_of(encoded("m")),)


@pytest.mark.parametrize("outcome", [Outcome.BITSTREAM_DAMAGED, Outcome.ABORTED])
def test_given_an_upload_that_was_damaged_on_the_board_then_it_is_sent_again(
    line: Line, outcome: Outcome
) -> None:
    line.board.outcomes.append((outcome, ""))
    line.give(("m", payload("m")))
    line.run()
    assert pulses(line, "m") == (pulses_of(encoded("m")),)


def test_given_one_that_is_damaged_each_time_then_it_fails_and_says_how_often(line: Line) -> None:
    line.board.outcomes.extend([(Outcome.BITSTREAM_DAMAGED, "")] * ATTEMPTS)
    line.give(("m", payload("m")))
    line.run()
    how = line.ended["m"]
    assert isinstance(how, MeasurementFailed)
    assert f"attempt {ATTEMPTS} of {ATTEMPTS}" in how.message


def test_given_a_board_that_hangs_then_one_fails_and_it_is_silent(line: Line) -> None:
    line.give(*((key, payload(key)) for key in "abc"))
    line.step()
    line.board.hung = True
    line.board.said.clear()
    line.run()
    assert "did not reply" in line.silent


def test_given_a_board_that_is_restarted_then_it_is_silent_and_nothing_is_made_up(
    line: Line,
) -> None:
    long = CountPulses((27,), 60_000_000)
    line.give(*((key, payload(key, measurement=long)) for key in "ab"))
    line.now += 5.0
    line.step()
    line.board.restart(line.now)
    line.run()
    assert line.silent == "was restarted"
    assert not line.ended


def test_given_a_board_that_is_restarted_when_more_of_what_it_said_before_comes_then_it_is_nobody_s(
    line: Line,
) -> None:
    line.give(("a", payload("a")))
    line.step()
    line.board.advance(line.now + 100.0)
    result = bytes(line.board.said)
    banner = Frame(FrameType.BANNER, NO_SEQUENCE).pack()
    assert line.exchange.receive(line.now, banner) == [Silent("was restarted")]
    assert line.exchange.receive(line.now, result) == []
    assert line.exchange.tick(line.now + 100.0) == []


def test_given_an_abort_of_another_host_then_what_was_under_way_is_measured_again(
    line: Line,
) -> None:
    line.give(*((key, payload(key)) for key in "abc"))
    line.step()
    line.board.advance(line.now + 100.0)
    line.run()
    assert [pulses(line, key) for key in "abc"] == [(pulses_of(encoded(key)),) for key in "abc"]


def test_given_what_is_abandoned_then_the_board_is_told_to_forget_it(line: Line) -> None:
    line.give(*((key, payload(key)) for key in "abc"))
    line.step()
    assert line.board.owed
    line.board.receive(line.now, line.exchange.abandon())
    assert not line.board.owed
    assert line.exchange.idle


def test_given_nothing_under_way_then_there_is_nothing_to_tell_a_board_that_is_abandoned(
    line: Line,
) -> None:
    line.give(("m", payload("m")))
    line.run()
    assert line.exchange.abandon() == b""


@settings(max_examples=300, deadline=None)
@given(
    chance=st.randoms(use_true_random=False),
    count=st.integers(1, 12),
    damage=st.sampled_from([0.02, 0.1, 0.3, 0.8]),
    restart_at=st.none() | st.integers(0, 60),
)
def test_given_damage_losses_and_restarts_then_each_ends_once_and_with_its_own_numbers(
    chance: Random, count: int, damage: float, restart_at: int | None
) -> None:
    line = Line(chance=chance, damage=damage)
    keys = [f"m{number}" for number in range(count)]
    sizes = Counter({key: chance.choice([40, 400, 60_000]) for key in keys})
    ways: list[CountPulses | TakeSamples] = [
        *(PULSES, CountPulses((27, 25), 1000), TakeSamples(2, 10_000, 300))
    ]
    asked = {key: chance.choice(ways) for key in keys}
    line.give(*((key, payload(key, sizes[key], asked[key])) for key in keys))
    for step in range(2000):
        if step == restart_at:
            line.board.restart(line.now)
        if not line.step():
            break
    else:
        raise AssertionError("it does not end")

    assert line.silent or set(line.ended) == set(keys), "some have no outcome"
    for key, how in line.ended.items():
        bits, measurement = encoded(key, sizes[key]), asked[key]
        if isinstance(how, Measured):
            pins = measurement.pins if isinstance(measurement, CountPulses) else ()
            assert how.report.result.pulses == tuple(pulses_of(bits) for _ in pins)
            samples = measurement.count if isinstance(measurement, TakeSamples) else 0
            assert how.report.samples == samples_of(bits, samples)
        else:
            assert isinstance(how, MeasurementFailed)
