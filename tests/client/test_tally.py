"""The sums of an experiment, as pages are told them."""

from __future__ import annotations

import math
from datetime import timedelta
from statistics import mean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.client._evaluating.reporting.tally import Tally
from icebus.schemas.errors import DeviceFailed
from icebus.schemas.experiment import MOST_BINS, MOST_BOARDS, MOST_NUMBERS, MOST_SPANS, Experiment
from icebus.schemas.kinds.pulsecount import PulseCountResult
from icebus.schemas.measuring import Failure, Result
from icebus.schemas.message import decode, now
from icebus.schemas.topics import LARGEST_EXPERIMENT

START = now()


class Measured(Result):
    """A result of a kind that tells one number."""

    value: float


def measured(value: float, serial: str = "d1", name: str = "a.bin") -> Measured:
    return Measured(
        serial=serial,
        evaluation="e1",
        batch="b1",
        bitstream=name,
        sha256="0" * 64,
        at=START,
        upload=0.1,
        window=1.0,
        value=value,
    )


def failed(serial: str) -> Failure:
    common = measured(0, serial).model_dump(include=set(Failure.model_fields))
    return Failure(**common, error=DeviceFailed("it is broken"))


def told(tally: Tally) -> Experiment:
    """As a page would read it."""
    experiment = tally.told(START)
    assert experiment is not None
    payload = experiment.to_json()
    assert len(payload) < LARGEST_EXPERIMENT
    return decode(Experiment, payload)


def test_given_no_run_then_there_is_nothing_to_tell() -> None:
    assert Tally("r1", "pulsecount").told(START) is None


def test_given_two_runs_then_the_sums_are_of_both_and_progress_of_the_last() -> None:
    tally = Tally("r1", "pulsecount")
    tally.begin(2, START)
    tally.add(measured(1), START)
    tally.add(failed("d2"), START)
    tally.end(START)
    tally.begin(None, START)
    tally.add(measured(3), START)
    experiment = told(tally)
    assert (experiment.runs, experiment.results, experiment.failures) == (2, 2, 1)
    assert experiment.failed == {"d2": 1}
    run = experiment.run
    assert (run.results, run.failures, run.total, run.ended) == (1, 0, None, None)


def test_given_results_of_pulse_counts_then_pulses_come_first() -> None:
    tally = Tally("r1", "pulsecount")
    tally.begin(1, START)
    common = measured(0).model_dump(exclude={"value"})
    tally.add(PulseCountResult(**common, pulses=7, frequency=7.0, exact=True), START)
    assert [each.name for each in told(tally).numbers][:2] == ["pulses", "frequency"]


@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=True, allow_infinity=True) | st.integers(-5, 5).map(float),
            st.sampled_from(["d1", "d2"]),
            st.floats(0, 10 * 86400),
        ),
        max_size=200,
    )
)
def test_given_whatever_values_then_every_sum_is_of_all_of_them(
    values: list[tuple[float, str, float]],
) -> None:
    tally = Tally("r1", "k")
    tally.begin(len(values), START)
    for value, serial, after in values:
        tally.add(
            measured(0, serial).model_copy(update={"value": value}),
            START + timedelta(seconds=after),
        )
    finite = [value for value, _, _ in values if abs(value) <= 1e300]
    experiment = told(tally)
    assert experiment.results == len(values)
    if not finite:
        assert experiment.numbers == []
        return
    [number] = experiment.numbers
    assert (number.lowest.value, number.highest.value) == (min(finite), max(finite))
    assert sum(number.histogram.counts) == len(finite)
    assert sum(each.count for each in number.spans) == len(finite)
    assert sum(each.count for each in number.boards.values()) == len(finite)
    edge, width = number.histogram.lowest, number.histogram.width
    assert edge <= min(finite)
    assert max(finite) <= edge + width * len(number.histogram.counts)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=300))
def test_given_values_of_a_board_then_its_mean_and_spread_are_those_of_statistics(
    values: list[float],
) -> None:
    tally = Tally("r1", "k")
    tally.begin(None, START)
    for second, value in enumerate(values):
        tally.add(measured(value), START + timedelta(seconds=second))
    [number] = told(tally).numbers
    board = number.boards["d1"]
    assert board.mean == pytest.approx(mean(values), abs=1e-6)
    assert board.deviation == pytest.approx(stdev(values), abs=1e-3)
    over_time = sum(each.mean * each.count for each in number.spans)
    assert over_time == pytest.approx(math.fsum(values), abs=1e-3)


def test_given_years_of_many_boards_then_what_is_told_stays_small() -> None:
    tally = Tally("r1", "k")
    tally.begin(None, START)
    for index in range(5000):
        result = measured(
            math.sin(index) * 10 ** (index % 12), f"board-{index % 300:056}", "n" * 400
        )
        result = result.model_copy(update={f"x{name}": index / 7 for name in range(9)})
        tally.add(result, START + timedelta(hours=index))
    experiment = told(tally)
    assert len(experiment.numbers) == MOST_NUMBERS
    for number in experiment.numbers:
        assert len(number.boards) == MOST_BOARDS
        assert len(number.spans) <= MOST_SPANS
        assert len(number.histogram.counts) <= MOST_BINS
