"""The kind on a farm: ``icebus up --boards 2 -- pytest examples/frequency``."""

from pathlib import Path

import pytest
from icebus_frequency.client import FrequencyClient, FrequencyHandler
from icebus_frequency.result import FrequencyResult

from icebus.client import Failure

CIRCUITS = Path(__file__).parents[1] / "circuits"


class Collecting(FrequencyHandler):
    """Keeps results as they are told."""

    def __init__(self) -> None:
        self.told: list[FrequencyResult] = []

    def results(self, result: FrequencyResult) -> None:
        """Keep it."""
        self.told.append(result)


def test_given_a_circuit_of_2_khz_when_evaluated_then_each_board_tells_its_frequency() -> None:
    handler = Collecting()
    with FrequencyClient(handlers=[handler]) as client, client.reserve(2) as boards:
        results = list(boards.evaluate([CIRCUITS / "pulse_2khz.bin"]))
        assert {result.serial for result in results} == set(boards.serials)
    for result in results:
        assert result.resolution == pytest.approx(10)
        assert result.hertz == pytest.approx(2000, abs=result.resolution)
    assert {result.evaluation for result in handler.told} == {each.evaluation for each in results}


def test_given_a_longer_gate_and_repeats_then_the_resolution_is_finer() -> None:
    with FrequencyClient() as client, client.reserve(1, args={"gate": 0.2}) as boards:
        [result] = boards.evaluate([CIRCUITS / "pulse_8khz.bin"], args={"repeats": 2})
    assert result.resolution == pytest.approx(2.5)
    assert result.hertz == pytest.approx(8000, abs=result.resolution)


def test_given_arguments_out_of_bounds_then_they_are_refused() -> None:
    with FrequencyClient() as client, client.reserve(1) as boards:
        circuit = CIRCUITS / "pulse_2khz.bin"
        [outcome] = boards.evaluate_outcomes([circuit], args={"repeats": 11})
    assert isinstance(outcome, Failure)
    assert outcome.error.code == "invalid_request"


def test_given_a_population_when_mapped_then_each_is_measured_once() -> None:
    population = [CIRCUITS / "pulse_2khz.bin", CIRCUITS / "pulse_8khz.bin"]
    with FrequencyClient() as client, client.reserve(2) as boards:
        found = {result.source.stem: result.hertz for result in boards.map(population)}
    assert found == pytest.approx({"pulse_2khz": 2000, "pulse_8khz": 8000}, abs=10)
