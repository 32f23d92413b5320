"""The end of a batch is told once, when its last outcome is there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from icebus.worker.states.measuring._batches import Batches, EndedBatch


def finished(results: int, failures: int, batch: str = "b") -> EndedBatch:
    return EndedBatch(batch, results, failures)


def test_given_a_batch_in_one_call_then_its_end_comes_with_the_last_outcome() -> None:
    batches = Batches()
    assert batches.accept("b", 2, more=False) is None
    assert batches.end_one("b", True) is None
    assert batches.end_one("b", False) == finished(1, 1)


def test_given_more_to_come_then_the_batch_stays_open_until_the_last_call() -> None:
    batches = Batches()
    batches.accept("b", 1, more=True)
    assert batches.end_one("b", True) is None
    assert batches.accept("b", 1, more=False) is None
    assert batches.end_one("b", True) == finished(2, 0)


def test_given_a_last_call_without_bitstreams_then_it_ends_the_batch_at_once() -> None:
    batches = Batches()
    batches.accept("b", 1, more=True)
    batches.end_one("b", True)
    assert batches.accept("b", 0, more=False) == finished(1, 0)


def test_given_the_end_of_a_state_then_all_open_batches_end_once() -> None:
    batches = Batches()
    batches.accept("a", 1, more=True)
    batches.accept("b", 2, more=False)
    batches.end_one("b", True)
    assert batches.abandon() == [finished(0, 0, "a"), finished(1, 0, "b")]
    assert batches.abandon() == []
    assert batches.end_one("b", True) is None, "an outcome of nothing that is open"


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=10),
    st.randoms(use_true_random=False),
)
def test_given_any_mixture_of_batches_then_each_ends_once_and_adds_up(
    calls: list[tuple[str, int]], chance: object
) -> None:
    batches = Batches()
    ends: list[EndedBatch] = []
    outstanding: list[str] = []
    last = {name: index for index, (name, _) in enumerate(calls)}
    for index, (name, count) in enumerate(calls):
        ended = batches.accept(name, count, more=index != last[name])
        ends += [ended] if ended else []
        outstanding += [name] * count
        chance.shuffle(outstanding)  # type: ignore[attr-defined]
        while outstanding and chance.random() < 0.5:  # type: ignore[attr-defined]
            ended = batches.end_one(outstanding.pop(), True)
            ends += [ended] if ended else []
    for name in outstanding:
        ended = batches.end_one(name, True)
        ends += [ended] if ended else []
    totals = {name: sum(c for n, c in calls if n == name) for name, _ in calls}
    assert {end.name: end.results for end in ends} == totals
    assert len(ends) == len(totals)
