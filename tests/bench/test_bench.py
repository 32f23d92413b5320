"""The benchmark measures what it says: its circuits are distinct and count what arithmetic says."""

from __future__ import annotations

import pytest

from bench.measure import Measure, quantile
from bench.population import STEPS, individual, population
from icebus.fpga import simulate
from icebus.schemas.boards.bitstream import validate


def test_given_a_population_then_its_bitstreams_are_valid_and_distinct() -> None:
    everybody = [*population(20), *population(20, first=20)]
    for each in everybody:
        validate(each.data)
    assert len({each.data for each in everybody}) == 40


@pytest.mark.parametrize("step", [STEPS[0], 3, 1_365, STEPS[-1]])
def test_given_an_individual_when_counted_then_it_gives_what_arithmetic_says(step: int) -> None:
    found = simulate(individual(step).data, cycles=2_390_000, seed=1)
    assert found.exact
    assert found.pulses == pytest.approx(2_390_000 * step / (1 << 16), abs=1)
    assert found.pulses in individual(step).counts(0.05)


def test_given_truth_tables_that_were_all_0_when_the_wiring_was_first_seen_then_they_count() -> (
    None
):
    for step in (1, 2, 0x4001, 0x7FFF, 1):  # what is worked out for one serves the next
        found = simulate(individual(step).data, cycles=2_390_000, seed=1)
        assert found.pulses == pytest.approx(2_390_000 * step / (1 << 16), abs=1)


def test_given_a_bound_then_a_measure_says_whether_it_holds() -> None:
    assert Measure("slow", 11.0, "ms", 10.0).held is False
    assert Measure("much", 11.0, "/s", 10.0, least=True).held is True
    assert Measure("so", 1.0, "ms").held is None


def test_given_values_then_a_quantile_is_one_of_them() -> None:
    values = [float(value) for value in range(1, 101)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile(values, 1)) == (50, 99, 100)
