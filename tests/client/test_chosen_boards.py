"""Bitstreams for which boards are chosen, beside others, in one run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from icebus.client import Failure, PulseCountClient
from icebus.client._evaluating.bitstreams import Chosen, evaluations_of
from icebus.schemas.errors import InvalidRequest

if TYPE_CHECKING:
    from tests.client.scripted_worker import ScriptedWorker


def where(outcomes: list[Any]) -> dict[str, list[str]]:
    """The serials that each bitstream's outcomes came from."""
    found: dict[str, list[str]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.bitstream, []).append(outcome.serial)
    return {name: sorted(serials) for name, serials in found.items()}


def test_given_boards_for_some_bitstreams_when_evaluated_then_the_others_go_to_all(
    alice: PulseCountClient, w1: ScriptedWorker, w2: ScriptedWorker, circuits: list[Path]
) -> None:
    first, second, third = circuits
    with alice.reserve(serials=["d1", "d2", "d3"]) as boards:
        results = list(boards.evaluate([(first, ["D1", "d1", "d3"]), second, (third, {"d2"})]))
    assert where(results) == {
        first.name: ["d1", "d3"],
        second.name: ["d1", "d2", "d3"],
        third.name: ["d2"],
    }
    assert {id(result.source) for result in results if result.bitstream == second.name} == {
        id(second)
    }


def test_given_boards_for_some_bitstreams_when_mapped_then_the_others_go_to_any_once(
    alice: PulseCountClient, w1: ScriptedWorker, w2: ScriptedWorker, circuits: list[Path]
) -> None:
    data = circuits[0].read_bytes()
    population: list[Any] = [(f"i{n}", data) for n in range(20)]
    chosen = [((f"c{n}", data), ["d1", "d4"]) for n in range(5)]
    with alice.reserve(4) as boards:
        results = list(boards.map(population + chosen))
    found = where(results)
    assert all(found[f"c{n}"] == ["d1", "d4"] for n in range(5))
    assert all(len(found[f"i{n}"]) == 1 for n in range(20))
    assert Counter(len(serials) for serials in found.values()) == {1: 20, 2: 5}


@pytest.mark.parametrize("run", ["evaluate_outcomes", "map_outcomes"])
def test_given_a_board_that_is_not_held_when_it_is_chosen_then_only_that_evaluation_fails(
    run: str, alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    with alice.reserve(serials=["d1"]) as boards:
        outcomes = list(getattr(boards, run)([(circuits[0], ["d1", "d9"]), circuits[1]]))
    (failure,) = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    assert (failure.serial, failure.error.code) == ("d9", "device_not_held")
    assert len(outcomes) == 3


@pytest.mark.parametrize("run", ["evaluate_outcomes", "map_outcomes"])
def test_given_a_broken_bitstream_for_two_boards_then_it_fails_for_each(
    run: str, alice: PulseCountClient, w1: ScriptedWorker
) -> None:
    with alice.reserve(serials=["d1", "d2"]) as boards:
        outcomes = list(getattr(boards, run)([(("broken", b"no bitstream"), ["d1", "d2"])]))
    assert where(outcomes) == {"broken": ["d1", "d2"]}
    assert {outcome.error.code for outcome in outcomes} == {"bitstream_invalid"}


def test_given_no_board_when_one_is_to_be_chosen_then_it_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no board is named"):
        Chosen.of(("a.bin", []))


@pytest.mark.parametrize(
    ("given", "serials"),
    [
        ("a.bin", None),
        (("name", b"bytes"), None),
        (("a.bin", None), None),
        (("a.bin", "d1"), ("d1",)),
        (("a.bin", ["d2", "d1", "d2"]), ("d2", "d1")),
        ((("name", b"bytes"), {"d2", "d1"}), ("d1", "d2")),
    ],
)
def test_given_a_bitstream_with_or_without_boards_then_they_are_told_apart(
    given: Any, serials: tuple[str, ...] | None
) -> None:
    chosen = Chosen.of(given)
    assert chosen.serials == serials
    assert chosen.source == (given if serials is None and given != ("a.bin", None) else given[0])


def test_given_bitstreams_when_counted_then_each_counts_for_its_boards() -> None:
    assert evaluations_of(["a", ("b", ["d1", "d2", "d3"]), ("c", "d1")], copies=2) == 6
    assert evaluations_of(iter(["a"]), copies=2) is None
