"""Kinds on boards that run our own firmware: what is asked for is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.worker.conftest import MakeDeviceHarness
from tests.worker.device_harness import HOLD, DeviceHarness, bitstream_file
from tests.worker.framed_board import FramedBoard, pulses_of, samples_of
from tests.worker.framed_device import FramedBoardOnPort
from tests.worker.scripted_board import blank

from icebus.schemas.boards.framed import FrameType
from icebus.schemas.boards.framed_replies import Outcome
from icebus.schemas.boards.framed_requests import CountPulses, Measure, Measurement, TakeSamples
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.kinds.variance import mean_difference

pytestmark = pytest.mark.timeout(60)

Serving = Callable[[str], tuple[DeviceHarness, FramedBoard]]


@pytest.fixture
def serve(make_harness: MakeDeviceHarness) -> Iterator[Serving]:
    """Brings a device whose board runs our firmware to serving a kind."""
    running: list[FramedBoardOnPort] = []

    def make(kind: str) -> tuple[DeviceHarness, FramedBoard]:
        harness = make_harness()
        running.append(FramedBoardOnPort(harness.board))
        harness.desire(HOLD, kind=kind)
        harness.plug()
        harness.recorder.wait_state(DeviceState.SERVING)
        return harness, running[-1].board

    yield make
    for each in running:
        each.close()


def evaluate(harness: DeviceHarness, **args: Any) -> Any:
    """Measure one bitstream; gives its result."""
    files = [bitstream_file(blank(1))]
    harness.invoke("evaluate", bitstreams=files, validate=False, args=args)
    return harness.recorder.wait_events("results")[-1]


def asked(board: FramedBoard) -> list[Measurement]:
    """What the board was asked to measure."""
    requests = [each.payload for each in board.requests if each.type == FrameType.MEASURE]
    return [Measure.parse(payload).measurement for payload in requests]


ENCODED = Measure.of(blank(1), CountPulses()).encoded


def test_given_pins_and_a_window_then_each_pin_is_told_with_the_first_ones_frequency(
    serve: Serving,
) -> None:
    harness, board = serve("pulsecount")
    result = evaluate(harness, pins=[25, 27], window=0.05)
    assert asked(board) == [CountPulses((25, 27), 50_000)]
    pulses = pulses_of(ENCODED)
    assert (result.pulses, result.pin_pulses) == (pulses, {25: pulses, 27: pulses})
    assert (result.counted, result.resolution) == (0.05, 20)
    assert result.frequency == pytest.approx(pulses / 0.05)
    assert result.temperature == 30


def test_given_a_window_that_no_board_has_then_nothing_is_accepted(serve: Serving) -> None:
    harness, board = serve("pulsecount")
    with pytest.raises(InvalidRequest, match="window"):
        evaluate(harness, window=61)
    assert asked(board) == []


@pytest.mark.parametrize("waveform", [False, True])
def test_given_samples_then_their_mean_difference_is_told_and_they_themselves_where_asked_for(
    serve: Serving, waveform: bool
) -> None:
    harness, board = serve("variance")
    result = evaluate(harness, samples=2048, rate=500_000, waveform=waveform)
    assert asked(board) == [TakeSamples(2, 500_000, 2048)]
    samples = samples_of(ENCODED, 2048)
    assert result.mean_difference == pytest.approx(mean_difference(samples), abs=0.001)
    assert (result.lowest, result.highest) == (min(samples), max(samples))
    assert (result.samples, result.exact, result.cdone) == (2048, True, True)
    assert result.rate == pytest.approx(500_000, rel=0.001)
    assert result.waveform == (list(samples) if waveform else None)


@pytest.mark.parametrize(("rate", "truth"), [(10_000, 10_000), (499_999, 500_000)])
def test_given_few_samples_then_their_rate_is_that_of_the_divided_clock(
    serve: Serving, rate: int, truth: float
) -> None:
    harness, _ = serve("variance")
    assert evaluate(harness, samples=2, rate=rate).rate == pytest.approx(truth, abs=0.5)


def test_given_an_emulated_board_then_its_voltage_is_said_to_be_synthetic(serve: Serving) -> None:
    harness, _ = serve("variance")
    harness.emulated = True
    harness.show()
    result = evaluate(harness, samples=2)
    assert (result.exact, "synthetic" in result.note) == (False, True)


def test_given_an_input_then_that_one_is_sampled(serve: Serving) -> None:
    harness, board = serve("variance")
    evaluate(harness, input=3, samples=2)
    assert asked(board) == [TakeSamples(3, 10_000, 2)]


def test_given_a_fpga_that_refuses_then_nothing_has_moved_and_the_note_says_why(
    serve: Serving,
) -> None:
    harness, board = serve("variance")
    board.outcomes.append((Outcome.NOT_CONFIGURED, ""))
    result = evaluate(harness, waveform=True)
    assert (result.mean_difference, result.samples, result.waveform) == (0, 0, [])
    assert result.cdone is False
    assert "CDONE" in result.note
