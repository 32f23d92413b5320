"""Kinds other than pulsecount: all of evaluating, for a client class of three lines, or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.client.frequency import KIND, FrequencyResult, FrequencyWorker

from icebus.client import GenericMeasuringClient, MeasuringClient, MeasuringHandler

if TYPE_CHECKING:
    from tests.client.scripted_control import ScriptedControl

    from icebus.broker.embedded import EmbeddedBroker


class FrequencyClient(MeasuringClient[FrequencyResult]):
    kind = KIND
    result = FrequencyResult


class FrequencyHandler(MeasuringHandler[FrequencyResult]):
    def __init__(self) -> None:
        self.told: list[float] = []

    def results(self, result: FrequencyResult) -> None:
        self.told.append(result.hertz)


@pytest.fixture
def w1(broker: EmbeddedBroker) -> Iterator[FrequencyWorker]:
    made = FrequencyWorker(broker, "w1")
    yield made
    made.close()


@pytest.fixture
def alice(broker: EmbeddedBroker, control: ScriptedControl) -> Iterator[FrequencyClient]:
    with FrequencyClient(broker.address("alice").url()) as client:
        yield client


@pytest.fixture
def anybody(broker: EmbeddedBroker, control: ScriptedControl) -> Iterator[GenericMeasuringClient]:
    with GenericMeasuringClient(KIND, broker.address("alice").url()) as client:
        yield client


def test_given_a_client_of_three_lines_when_evaluated_then_results_are_of_its_kind(
    alice: FrequencyClient, w1: FrequencyWorker, circuits: list[Path]
) -> None:
    handler = FrequencyHandler()
    alice.register(handler)
    with alice.reserve(serials=["d1", "d3"]) as boards:
        results = list(boards.evaluate(circuits))
    alice.close()
    assert Counter(type(result) for result in results) == {FrequencyResult: 6}
    assert {result.source for result in results} == set(circuits)
    assert handler.told == [1000.0] * 6


def test_given_a_client_of_three_lines_when_mapped_then_each_file_has_one_result(
    alice: FrequencyClient, w1: FrequencyWorker, circuits: list[Path]
) -> None:
    with alice.reserve(serials=["d1", "d3"]) as boards:
        results = list(boards.map(circuits))
    assert sorted(result.bitstream for result in results) == [path.name for path in circuits]
    assert {result.hertz for result in results} == {1000.0}


def test_given_results_that_nobody_took_when_collected_then_they_are_of_its_kind(
    alice: FrequencyClient, w1: FrequencyWorker
) -> None:
    w1.kept = ["e1", "e2"]
    with alice.reserve(1) as boards:
        collected = list(boards.collect())
    assert [type(outcome) for outcome in collected] == [FrequencyResult] * 2


def test_given_arguments_when_reserved_and_evaluated_then_control_and_worker_get_them(
    alice: FrequencyClient, control: ScriptedControl, w1: FrequencyWorker, circuits: list[Path]
) -> None:
    with alice.reserve(1, args={"gate": 0.5}) as boards:
        (result,) = boards.evaluate(circuits[:1], args={"repeats": 3})
    assert result.raw == [1000] * 3
    (asked,) = [args for operation, args in control.requests.seen if operation == "reserve"]
    assert (asked["kind"], asked["args"]) == (KIND, {"gate": 0.5})


def test_given_no_arguments_when_evaluated_then_none_are_sent_as_earlier_workers_know_none(
    alice: FrequencyClient, w1: FrequencyWorker, circuits: list[Path]
) -> None:
    with alice.reserve(1) as boards:
        assert len(list(boards.evaluate(circuits[:1]))) == 1
    assert all("args" not in call.args for _, call in w1.calls.seen)


def test_given_no_class_for_a_kind_when_evaluated_then_results_have_what_its_worker_tells(
    anybody: GenericMeasuringClient, w1: FrequencyWorker, circuits: list[Path]
) -> None:
    with anybody.reserve(1) as boards:
        (result,) = boards.evaluate(circuits[:1])
    assert result.model_extra == {"hertz": 1000.0, "resolution": 0.5, "raw": [1000]}
    assert (result.bitstream, result.source) == (circuits[0].name, circuits[0])
    assert result == result.with_source(None)
    assert result != result.model_copy(update={"hertz": 1.0})


def test_given_a_result_of_an_earlier_version_when_it_comes_then_its_topic_tells_the_device(
    alice: FrequencyClient, w1: FrequencyWorker, circuits: list[Path]
) -> None:
    w1.names_device = False
    with alice.reserve(1) as boards:
        (result,) = boards.evaluate(circuits[:1])
    assert result.serial == "d1"
