"""Every item on any board: each has one outcome, whatever boards are lost, refuse or come back."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from icebus.client._evaluating.distribution.any_board import ATTEMPTS, AnyBoard
from icebus.client._evaluating.distribution.board_queue import EvaluateCall, Evaluation
from icebus.client._evaluating.distribution.distribution import FailedEvaluation
from icebus.schemas.errors import (
    BitstreamUnsupported,
    DeviceFailed,
    MeasurementFailed,
    ReservationEnded,
    WorkerLost,
)

LOST = WorkerLost("worker w1 died")
SILENT = MeasurementFailed("the board gave no report")
UNSUPPORTED = BitstreamUnsupported("it uses a PLL")


def started(count: int, *boards: str, total: int | None = None) -> AnyBoard[int]:
    any_board: AnyBoard[int] = AnyBoard("batch", boards or ("a",), total)
    for item in range(count):
        any_board.add(item)
    return any_board


def items(call: EvaluateCall[int]) -> list[int]:
    return [evaluation.item for evaluation in call.evaluations]


def by_board(any_board: AnyBoard[int]) -> dict[str, list[int]]:
    return {call.serial: items(call) for call in any_board.due()}


def accept_all(any_board: AnyBoard[int]) -> dict[str, list[Evaluation[int]]]:
    sent = {call.serial: list(call.evaluations) for call in any_board.due()}
    for serial in sent:
        any_board.accepted(serial)
    return sent


def test_given_boards_of_unknown_speed_when_started_then_each_gets_two_in_order() -> None:
    any_board = started(8, "a", "b")
    assert by_board(any_board) == {"a": [0, 1], "b": [2, 3]}


@pytest.mark.parametrize(
    ("took", "depth"), [(0.01, 12), (0.05, 11), (0.125, 5), (0.25, 3), (0.5, 2), (1.0, 2), (5.0, 2)]
)
def test_given_how_long_a_board_takes_when_it_is_filled_then_the_queue_covers_half_a_second(
    took: float, depth: int
) -> None:
    any_board = started(20)
    (first, second) = accept_all(any_board)["a"]
    any_board.complete("a", first.id, took)
    any_board.complete("a", second.id, took)
    (call,) = any_board.due()
    assert len(call.evaluations) == depth


def test_given_few_items_left_when_given_out_then_no_board_gets_more_than_its_share() -> None:
    any_board = started(3, "a", "b", "c", total=3)
    assert sorted(map(len, by_board(any_board).values())) == [1, 1, 1]


def test_given_an_unknown_end_when_it_comes_then_shares_are_fair_from_there() -> None:
    any_board = started(4, "a", "b", "c", "d")
    any_board.end()
    assert by_board(any_board) == {"a": [0], "b": [1], "c": [2], "d": [3]}


def windows(items: int, boards: int, times: list[float] | None = None) -> float:
    """Runs items on boards that take a second for an item; returns when the last was done."""
    names = [f"b{n}" for n in range(boards)]
    any_board: AnyBoard[int] = AnyBoard("batch", names, items)
    free_at = dict.fromkeys(names, 0.0)
    queues: dict[str, list[Evaluation[int]]] = {name: [] for name in names}
    now, taken = 0.0, 0
    while not any_board.done:
        while any_board.wants_more and taken < items:
            any_board.add(taken)
            taken += 1
        if taken == items:
            any_board.end()
        for call in any_board.due():
            if not queues[call.serial]:
                free_at[call.serial] = now + 1.0
            queues[call.serial] += call.evaluations
            any_board.accepted(call.serial)
        serial = min((name for name in names if queues[name]), key=lambda name: free_at[name])
        now = free_at[serial]
        any_board.complete(serial, queues[serial].pop(0).id, 1.0)
        free_at[serial] = now + 1.0
    return now


def test_given_a_hundred_items_and_eight_boards_when_mapped_then_it_takes_thirteen_windows() -> (
    None
):
    assert windows(100, 8) == 13


@given(count=st.integers(1, 200), boards=st.integers(1, 16))
def test_given_boards_of_one_speed_when_mapped_then_none_waits_for_another(
    count: int, boards: int
) -> None:
    assert windows(count, boards) == math.ceil(count / boards)


def test_given_a_lost_board_when_others_ask_then_they_get_what_it_owed_first_in_line() -> None:
    any_board = started(8, "a", "b")
    accept_all(any_board)
    assert any_board.lose("a", LOST) == []
    for evaluation in list(any_board._boards["b"].queue.outstanding.values()):
        any_board.complete("b", evaluation.id)
    (call,) = any_board.due()
    assert items(call) == [0], "the one that may have been its undoing goes alone"
    any_board.accepted("b")
    (call,) = any_board.due()
    assert items(call) == [1]


def test_given_a_bitstream_that_kills_what_measures_it_when_mapped_then_it_alone_fails() -> None:
    any_board = started(8, "a", "b", total=8)
    poison = 2
    done: list[int] = []
    failed: list[FailedEvaluation[int]] = []
    for _ in range(50):
        if any_board.wants_more and any_board._known == 8:
            any_board.end()
        for serial, evaluations in accept_all(any_board).items():
            for evaluation in evaluations:
                if evaluation.item == poison:
                    failed += any_board.lose(serial, LOST)
                    any_board.join(serial)
                    break
                if any_board.complete(serial, evaluation.id, 0.05):
                    done.append(evaluation.item)
    assert any_board.done
    assert sorted(done) == [item for item in range(8) if item != poison]
    ((evaluation, error),) = [(each.evaluation, each.error) for each in failed]
    assert evaluation.item == poison
    assert isinstance(error, WorkerLost)
    assert "attempt 3 of 3, on a, b" in str(error)
    assert error.details["attempts"] == ATTEMPTS


def test_given_an_item_that_a_board_failed_when_others_live_then_they_are_preferred() -> None:
    any_board = started(1, "a", "b")
    any_board.end()
    ((evaluation,),) = accept_all(any_board).values()
    assert any_board.fail("a", evaluation.id, SILENT) == []
    assert by_board(any_board) == {"b": [0]}


def test_given_one_board_when_it_fails_an_item_then_it_tries_again_three_times_in_all() -> None:
    any_board = started(1)
    any_board.end()
    for _ in range(ATTEMPTS - 1):
        ((evaluation,),) = accept_all(any_board).values()
        assert any_board.fail("a", evaluation.id, SILENT) == []
    ((evaluation,),) = accept_all(any_board).values()
    (failed,) = any_board.fail("a", evaluation.id, SILENT)
    assert isinstance(failed.error, MeasurementFailed)
    assert any_board.done


def test_given_an_error_of_the_bitstream_when_told_then_it_is_final() -> None:
    any_board = started(1, "a", "b")
    any_board.end()
    ((evaluation,),) = accept_all(any_board).values()
    assert any_board.fail("a", evaluation.id, UNSUPPORTED) == [
        FailedEvaluation(evaluation, UNSUPPORTED)
    ]
    assert any_board.done


def test_given_a_board_that_says_it_fails_when_told_of_one_then_the_rest_goes_elsewhere() -> None:
    any_board = started(4, "a", "b", total=4)
    any_board.end()
    sent = accept_all(any_board)
    assert any_board.fail("a", sent["a"][0].id, DeviceFailed("unplugged")) == []
    assert set(any_board.losses) == {"a"}
    for evaluation in sent["b"]:
        any_board.complete("b", evaluation.id, 1.0)
    assert by_board(any_board) == {"b": [0]}


def test_given_a_lost_board_when_it_is_lost_for_good_then_that_is_the_loss() -> None:
    any_board = started(1, "a")
    ended = ReservationEnded("over")
    assert (
        any_board.lose("a", LOST) == any_board.lose("a", ended) == any_board.lose("a", LOST) == []
    )
    assert any_board.losses == {"a": ended}


def test_given_a_late_outcome_when_another_board_measures_it_already_then_the_first_wins() -> None:
    any_board = started(1, "a", "b")
    any_board.end()
    ((first,),) = accept_all(any_board).values()
    any_board.lose("a", LOST)
    ((second,),) = accept_all(any_board).values()
    assert second.serial == "b"
    assert second.id != first.id
    assert any_board.complete("a", first.id) == first
    assert any_board.done
    assert any_board.complete("b", second.id, 1.0) is None
    assert any_board.outstanding("b") == 0


def test_given_a_full_queue_when_another_board_has_room_then_it_gets_the_items() -> None:
    any_board = started(2, "a", "b")
    (call,) = any_board.due()
    assert items(call) == [0, 1]
    any_board.refused("a", 1)
    assert by_board(any_board) == {"b": [0, 1]}


def test_given_no_board_left_when_given_up_then_all_that_is_open_fails_and_so_does_the_rest() -> (
    None
):
    any_board = started(4, "a", "b")
    accept_all(any_board)
    any_board.lose("a", LOST)
    any_board.lose("b", LOST)
    assert not any_board.wants_more
    assert sorted(each.evaluation.item for each in any_board.give_up(LOST)) == [0, 1, 2, 3]
    assert any_board.no_board_error is LOST
    (failed,) = any_board.add(4)
    assert failed.error is LOST
    any_board.end()
    assert any_board.done


def test_given_a_cancelled_batch_when_boards_still_measure_then_only_the_end_is_sent() -> None:
    any_board = started(8, "a", "b")
    accept_all(any_board)
    any_board.cancel()
    assert any_board.due() == [EvaluateCall("a", (), more=False), EvaluateCall("b", (), more=False)]
    any_board.accepted("a")
    any_board.lose("b", LOST)
    assert any_board.due() == []
