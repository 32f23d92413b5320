"""What the passing of time says of a run; the test is the clock."""

from __future__ import annotations

import math
from typing import Any

import pytest

from icebus.client._evaluating.distribution.each_board import EachBoard
from icebus.client._evaluating.options import Options
from icebus.client._evaluating.running.timeouts import ASK_AGAIN, RETURN, SLOWEST, Timeouts
from icebus.schemas.errors import (
    BrokerUnavailable,
    DeadlineExceeded,
    DeviceFailed,
    IcebusError,
    ReservationEnded,
)

UNPLUGGED = DeviceFailed("unplugged")
OPTIONS = Options(stall=100, patience=30, broker_away=60)


def watched(waits_for_replacement: bool = False) -> tuple[EachBoard[int], Timeouts]:
    """Boards a and b; only a owes something."""
    each_board: EachBoard[int] = EachBoard(
        "batch", ["a", "b"], waits_for_replacement=waits_for_replacement
    )
    each_board.add(1)
    each_board.due()
    (evaluation,) = each_board._boards["b"].queue.outstanding.values()
    each_board.complete("b", evaluation.id)
    return each_board, Timeouts(each_board, OPTIONS, 0)


def test_given_silence_when_a_board_owes_nothing_or_gave_a_sign_then_it_is_not_stalled() -> None:
    _, timeouts = watched()
    assert timeouts.stalled(100) == {}
    stalled = timeouts.stalled(101)
    assert {serial: type(error) for serial, error in stalled.items()} == {"a": DeadlineExceeded}
    timeouts.heard_from("a", 50)
    assert timeouts.stalled(101) == {}


def test_given_a_lost_board_when_time_passes_then_it_is_neither_stalled_nor_asked_again() -> None:
    each_board, timeouts = watched()
    each_board.lose("a", UNPLUGGED)
    assert timeouts.stalled(1000) == {}
    assert not timeouts.should_ask_again(1000)


def test_given_a_silent_board_when_it_was_asked_then_not_again_before_as_long_has_passed() -> None:
    _, timeouts = watched()
    assert [
        timeouts.should_ask_again(at)
        for at in (ASK_AGAIN, ASK_AGAIN + 1, ASK_AGAIN + 2, 2 * ASK_AGAIN + 2)
    ] == [
        False,
        True,
        False,
        True,
    ]


def test_given_a_broker_away_when_it_was_back_in_between_then_its_absence_is_counted_anew() -> None:
    _, timeouts = watched()
    absences = [(False, 0), (False, 60), (True, 61), (False, 62), (False, 122), (False, 123)]
    told = [timeouts.broker_error(connected, at) for connected, at in absences]
    assert told[:-1] == [None] * 5
    assert isinstance(told[-1], BrokerUnavailable)


def test_given_a_lost_board_when_nobody_tells_of_its_return_then_it_is_tried_after_a_while() -> (
    None
):
    each_board, timeouts = watched()
    each_board.lose("a", UNPLUGGED)
    assert timeouts.maybe_back(0) == []
    assert timeouts.maybe_back(RETURN + 1) == ["a"]
    each_board.join("a")
    assert timeouts.maybe_back(RETURN + 2) == []


def lost(each_board: EachBoard[int], error: IcebusError) -> None:
    for serial in ("a", "b"):
        each_board.lose(serial, error)


def test_given_no_board_left_when_one_may_come_back_then_patience_decides() -> None:
    each_board, timeouts = watched(waits_for_replacement=True)
    lost(each_board, UNPLUGGED)
    assert timeouts.give_up_error(10) is None
    timeouts.board_works()
    assert timeouts.give_up_error(20) is None
    assert timeouts.give_up_error(50) is None
    error = timeouts.give_up_error(51)
    assert isinstance(error, DeviceFailed)
    assert "no board came back in 30 s" in error.message


def test_given_no_board_left_when_none_can_come_back_then_there_is_no_waiting() -> None:
    each_board, timeouts = watched(waits_for_replacement=True)
    lost(each_board, ReservationEnded("it is over"))
    assert isinstance(timeouts.give_up_error(0), ReservationEnded)


def test_given_a_run_that_ends_by_itself_when_asked_then_nothing_is_to_be_given_up() -> None:
    each_board, timeouts = watched()
    lost(each_board, UNPLUGGED)
    assert each_board.no_board_error is not None
    assert timeouts.give_up_error(1000) is None


def test_given_a_long_window_when_a_board_measures_then_it_is_neither_asked_nor_given_up() -> None:
    each_board, _ = watched()
    timeouts = Timeouts(each_board, Options(args={"window": 60}, stall=100), 0)
    assert not timeouts.should_ask_again(60 * SLOWEST + ASK_AGAIN)
    assert timeouts.stalled(60 * SLOWEST + 100) == {}
    assert timeouts.should_ask_again(60 * SLOWEST + ASK_AGAIN + 1)
    assert "340 s" in timeouts.stalled(60 * SLOWEST + 101)["a"].message


@pytest.mark.parametrize(
    "args", [{}, {"window": "long"}, {"window": -1}, {"window": math.inf}, None]
)
def test_given_no_window_that_makes_sense_then_silence_is_silence(args: Any) -> None:
    assert Options(args=args).window == 0
