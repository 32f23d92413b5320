"""What measurements of the kinds that icebus ships may ask for, and what results tell."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from icebus.schemas.kinds.pulsecount import PulseCountMeasurement, PulseCountResult
from icebus.schemas.kinds.variance import (
    MOST_SAMPLES,
    VarianceMeasurement,
    VarianceResult,
    mean_difference,
)

OUTCOME: dict[str, Any] = {
    "serial": "S1",
    "evaluation": "e1",
    "batch": "b1",
    "bitstream": "a.bin",
    "sha256": "0" * 64,
    "annotations": {"generation": 3},
    "at": "2026-11-22T17:07:41Z",
    "upload": 0.1,
    "window": 1.0,
}


def test_given_nothing_asked_for_then_it_is_what_labs_do() -> None:
    assert PulseCountMeasurement() == PulseCountMeasurement(pins=[27], window=1)
    wanted = VarianceMeasurement()
    assert (wanted.rate, wanted.samples, wanted.waveform) == (10_000, 500, False)
    assert wanted.seconds == 0.05


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        (PulseCountMeasurement, {"pins": []}),
        (PulseCountMeasurement, {"pins": [27, 27]}),
        (PulseCountMeasurement, {"pins": [27, 25, 21, 19, 18]}),
        (PulseCountMeasurement, {"pins": [0]}),
        (PulseCountMeasurement, {"pins": [49]}),
        (PulseCountMeasurement, {"window": 0.0009}),
        (PulseCountMeasurement, {"window": 60.1}),
        (PulseCountMeasurement, {"pin": 27}),
        (VarianceMeasurement, {"samples": 1}),
        (VarianceMeasurement, {"samples": MOST_SAMPLES + 1}),
        (VarianceMeasurement, {"rate": 999}),
        (VarianceMeasurement, {"rate": 500_001}),
        (VarianceMeasurement, {"input": 8}),
    ],
)
def test_given_what_no_board_does_then_it_is_refused(model: type[Any], asked: Any) -> None:
    with pytest.raises(ValidationError):
        model(**asked)


def test_given_a_result_of_an_earlier_version_then_it_is_read_with_nothing_made_up() -> None:
    result = PulseCountResult.model_validate({**OUTCOME, "pulses": 1999, "exact": True})
    assert (result.pulses, result.pin_pulses, result.frequencies) == (1999, {}, {})
    assert (result.frequency, result.counted, result.temperature) == (None, None, None)


def test_given_several_pins_when_sent_as_json_then_they_are_read_back_in_order() -> None:
    result = PulseCountResult(
        **OUTCOME, pulses=100, exact=True, pin_pulses={27: 100, 25: 50}, counted=0.5
    )
    read = PulseCountResult.model_validate_json(result.model_dump_json())
    assert read == result
    assert list(read.pin_pulses) == [27, 25]
    assert read.frequencies == {27: 200.0, 25: 100.0}


def test_given_the_longest_waveform_then_its_result_is_far_below_what_a_message_holds() -> None:
    result = VarianceResult(
        **OUTCOME,
        mean_difference=1.0,
        lowest=0,
        highest=4095,
        samples=MOST_SAMPLES,
        rate=500_000.0,
        exact=True,
        waveform=[4095] * MOST_SAMPLES,
    )
    assert len(json.dumps(result.model_dump(mode="json"))) < 20_000


@given(st.lists(st.integers(0, 4095), min_size=2))
def test_given_samples_then_the_mean_difference_is_that_of_neighbours(samples: list[int]) -> None:
    total = sum(abs(samples[i + 1] - samples[i]) for i in range(len(samples) - 1))
    assert mean_difference(samples) == pytest.approx(total / (len(samples) - 1))
    assert mean_difference(samples[::-1]) == pytest.approx(mean_difference(samples))


def test_given_too_few_samples_then_nothing_has_moved() -> None:
    assert mean_difference([]) == mean_difference([7]) == 0.0
