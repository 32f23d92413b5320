"""Every item on each board: an evaluation has exactly one outcome, in any order."""

from __future__ import annotations

from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from icebus.client._evaluating.distribution.board_queue import EvaluateCall, Evaluation
from icebus.client._evaluating.distribution.distribution import FailedEvaluation
from icebus.client._evaluating.distribution.each_board import AHEAD, DEPTH, SPREAD, EachBoard
from icebus.schemas.errors import DeviceFailed, MeasurementFailed

BOARDS = ("a", "b", "c")

SPARE = ("x", "y")
"""Boards that may take the place of others."""


class EachBoardMachine(RuleBasedStateMachine):
    """Boards that accept, refuse, answer late, twice, out of order, and die."""

    def __init__(self) -> None:
        super().__init__()
        self.each_board: EachBoard[int] = EachBoard("batch", BOARDS, waits_for_replacement=True)
        self.places = list(BOARDS)
        self.preparing: set[str] = set()
        self.items = 0
        self.expected = 0
        self.asked: dict[str, EvaluateCall[int]] = {}
        self.accepted: list[Evaluation[int]] = []
        self.known: list[Evaluation[int]] = []
        self.outcomes: Counter[tuple[str, int]] = Counter()
        self.ids: Counter[str] = Counter()
        self.told_end: set[str] = set()
        self.lost: set[str] = set()
        self.ended = False

    @property
    def no_board_error(self) -> bool:
        return self.each_board.no_board_error is not None

    def _count(self, evaluations: list[Evaluation[int]]) -> None:
        self.outcomes.update((evaluation.serial, evaluation.item) for evaluation in evaluations)

    def _failed(self, failed: list[FailedEvaluation[int]]) -> None:
        self._count([each.evaluation for each in failed])

    @precondition(
        lambda self: not self.ended and (self.each_board.wants_more or self.no_board_error)
    )
    @rule(count=st.integers(1, 5))
    def add(self, count: int) -> None:
        for _ in range(count):
            if not self.each_board.wants_more and not self.no_board_error:
                break
            self._failed(self.each_board.add(self.items))
            self.items += 1
            self.expected += len(BOARDS)

    @precondition(lambda self: not self.ended and self.each_board.wants_more)
    @rule(data=st.data())
    def add_for_some(self, data: st.DataObject) -> None:
        serials = data.draw(st.lists(st.sampled_from(self.places), min_size=1, unique=True))
        self._failed(self.each_board.add(self.items, serials))
        self.items += 1
        self.expected += len(serials)

    @precondition(lambda self: not self.ended)
    @rule()
    def add_for_a_stranger(self) -> None:
        (failed,) = self.each_board.add(self.items, ["not-a-board"])
        assert failed.error.code == "device_not_held"
        self._failed([failed])
        self.items += 1
        self.expected += 1

    @precondition(lambda self: not self.ended and self.items)
    @rule()
    def reject(self) -> None:
        evaluations = self.each_board.reject(self.items)
        self.expected += len(evaluations)
        self._count(evaluations)
        self.ids.update(evaluation.id for evaluation in evaluations)
        self.items += 1

    @rule()
    def end(self) -> None:
        self.each_board.end()
        self.ended = True

    @rule()
    def call(self) -> None:
        for call in self.each_board.due():
            assert call.serial not in self.asked, "asked again before the answer"
            assert call.serial not in self.lost | self.preparing, "sent to a board that can't"
            if not call.again:
                assert call.serial not in self.told_end, "sent after the end was told"
            assert call.evaluations or not call.more, "a call without a purpose"
            assert self.each_board.outstanding(call.serial) <= DEPTH
            self.asked[call.serial] = call
            self.known += [
                evaluation for evaluation in call.evaluations if evaluation not in self.known
            ]

    @rule()
    def ask_again(self) -> None:
        self.each_board.ask_again()

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        call = self._answer(data)
        self.accepted += call.evaluations
        self.each_board.accepted(call.serial)
        if not call.more and call.serial not in self.lost:
            self.told_end.add(call.serial)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), room=st.integers(-1, 10))
    def refuse(self, data: st.DataObject, room: int) -> None:
        call = self._answer(data)
        self.each_board.refused(call.serial, room)
        for each in self.each_board.due():
            assert each.serial != call.serial, "asked again at once"
            self.asked[each.serial] = each
            self.known += each.evaluations

    def _answer(self, data: st.DataObject) -> EvaluateCall[int]:
        return self.asked.pop(data.draw(st.sampled_from(sorted(self.asked))))

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def outcome(self, data: st.DataObject) -> None:
        """Of anything that was ever sent: early, late, twice, of a lost board."""
        evaluation = data.draw(st.sampled_from(self.known))
        completed = self.each_board.complete(evaluation.serial, evaluation.id)
        if completed is not None:
            assert completed == evaluation
            self._count([completed])

    @rule(evaluation=st.text(max_size=3))
    def stray_outcome(self, evaluation: str) -> None:
        assert self.each_board.complete("a", evaluation) is None
        assert self.each_board.complete("not-a-board", evaluation) is None

    @rule(serial=st.sampled_from(BOARDS))
    def resume(self, serial: str) -> None:
        self.each_board.resume(serial)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        evaluation = data.draw(st.sampled_from(self.known))
        error = MeasurementFailed("silence")
        failed = self.each_board.fail(evaluation.serial, evaluation.id, error)
        assert failed in ([], [FailedEvaluation(evaluation, error)])
        self._failed(failed)

    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        serial = data.draw(st.sampled_from(self.places))
        self._failed(self.each_board.lose(serial, DeviceFailed("unplugged")))
        self._note_loss(serial)

    def _note_loss(self, serial: str) -> None:
        self.asked.pop(serial, None)
        self.lost.add(serial)
        self.preparing.discard(serial)
        assert set(self.places) & set(self.each_board.losses) == self.lost

    @rule(data=st.data())
    def join(self, data: st.DataObject) -> None:
        serial = data.draw(st.sampled_from(self.places))
        self.each_board.join(serial)
        self.preparing.discard(serial)
        if serial in self.lost:
            self.lost.discard(serial)
            self.told_end.discard(serial)

    @rule(data=st.data(), by=st.sampled_from(BOARDS + SPARE))
    def replace(self, data: st.DataObject, by: str) -> None:
        """By a board without a place; control gives no board twice."""
        serial = data.draw(st.sampled_from(self.places))
        if by in self.places:
            return
        self._failed(self.each_board.replace(serial, by, DeviceFailed("unplugged")))
        self._note_loss(serial)
        self.lost.discard(serial)
        self.places[self.places.index(serial)] = by
        self.told_end.discard(by)
        self.preparing.add(by)

    @precondition(lambda self: len(self.lost) == len(BOARDS))
    @rule()
    def give_up(self) -> None:
        assert self.each_board.give_up(DeviceFailed("unplugged")) == []
        assert self.no_board_error

    @invariant()
    def at_most_one_outcome_each(self) -> None:
        assert all(count == 1 for count in self.outcomes.values())

    @invariant()
    def each_item_has_a_place_on_as_many_boards(self) -> None:
        assert self.each_board.copies == len(BOARDS)

    @invariant()
    def done_means_all(self) -> None:
        assert self.each_board.done == (self.ended and len(self.outcomes) == self.expected)

    @invariant()
    def memory_is_bounded(self) -> None:
        assert all(len(board.unsent) <= SPREAD for board in self.each_board._boards.values())

    def teardown(self) -> None:
        """Left alone with boards that work, the batch comes to its end."""
        self.each_board.end()
        self.ended = True
        for _ in range(self.items + 10):
            if self.each_board.done:
                break
            for call in [*self.asked.values(), *self.each_board.due()]:
                self.each_board.accepted(call.serial)
                for evaluation in call.evaluations:
                    if self.each_board.complete(evaluation.serial, evaluation.id):
                        self._count([evaluation])
            self.asked.clear()
            for evaluation in self.accepted:
                if self.each_board.complete(evaluation.serial, evaluation.id):
                    self._count([evaluation])
            for serial in self.places:
                self.each_board.join(serial)
                self.each_board.resume(serial)
        assert self.each_board.done
        self.done_means_all()
        self.at_most_one_outcome_each()


TestEachBoard = EachBoardMachine.TestCase
TestEachBoard.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def started(count: int, *boards: str) -> EachBoard[int]:
    each_board: EachBoard[int] = EachBoard("batch", boards or ("a",))
    for item in range(count):
        each_board.add(item)
    return each_board


def test_given_few_items_when_all_are_known_then_one_call_tells_the_end_too() -> None:
    each_board = started(2)
    each_board.end()
    (call,) = each_board.due()
    assert [evaluation.item for evaluation in call.evaluations] == [0, 1]
    assert not call.more


def test_given_an_end_known_late_when_all_was_sent_then_an_empty_call_tells_it() -> None:
    each_board = started(2)
    (call,) = each_board.due()
    assert call.more
    each_board.accepted("a")
    each_board.end()
    (last,) = each_board.due()
    assert last == EvaluateCall("a", (), more=False)
    each_board.accepted("a")
    assert each_board.due() == []


def test_given_no_items_when_the_end_comes_then_nothing_is_sent() -> None:
    each_board = started(0)
    each_board.end()
    assert each_board.due() == []
    assert each_board.done


def test_given_a_full_board_when_half_of_it_is_done_then_it_is_filled_up_at_once() -> None:
    each_board = started(16)
    (call,) = each_board.due()
    assert len(call.evaluations) == DEPTH
    each_board.accepted("a")
    for evaluation in call.evaluations[: DEPTH // 2 - 1]:
        each_board.complete("a", evaluation.id)
    assert each_board.due() == []
    each_board.complete("a", call.evaluations[-1].id)
    (more,) = each_board.due()
    assert len(more.evaluations) == DEPTH // 2


def test_given_a_refusal_when_an_outcome_comes_then_no_more_than_its_room_is_sent() -> None:
    each_board = started(8)
    (call,) = each_board.due()
    each_board.refused("a", 2)
    assert each_board.due() == []
    each_board.resume("a")
    (again,) = each_board.due()
    assert again.evaluations == call.evaluations[:2]


def test_given_a_slow_board_when_the_fast_one_runs_ahead_then_it_waits_at_the_spread() -> None:
    each_board = started(0, "fast", "slow")
    taken = 0
    while each_board.wants_more:
        each_board.add(taken)
        taken += 1
        for call in each_board.due():
            if call.serial == "fast":
                each_board.accepted("fast")
                for evaluation in call.evaluations:
                    each_board.complete("fast", evaluation.id)
    assert taken <= SPREAD + DEPTH


def test_given_nothing_sent_when_items_are_taken_then_only_a_few_ahead() -> None:
    each_board = started(0, "a", "b")
    taken = 0
    while each_board.wants_more:
        each_board.add(taken)
        taken += 1
    assert taken == AHEAD


def test_given_a_closed_board_when_outcomes_may_be_lost_then_they_are_asked_for_again() -> None:
    each_board = started(2)
    each_board.end()
    (call,) = each_board.due()
    each_board.accepted("a")
    each_board.complete("a", call.evaluations[0].id)
    assert each_board.due() == []
    each_board.ask_again()
    assert each_board.due() == [EvaluateCall("a", call.evaluations[1:], more=False, again=True)]


def test_given_a_cancelled_batch_when_a_call_is_refused_then_only_the_end_is_sent() -> None:
    each_board = started(20)
    (call,) = each_board.due()
    each_board.cancel()
    assert each_board.due() == []
    each_board.refused("a", 1)
    each_board.resume("a")
    assert each_board.due() == [EvaluateCall("a", (), more=False)]
    assert call.more


def test_given_a_lost_board_when_it_is_back_then_it_takes_part_in_what_comes_after() -> None:
    each_board = started(2, "a", "b")
    each_board.due()
    assert [each.evaluation.item for each in each_board.lose("a", DeviceFailed("unplugged"))] == [
        0,
        1,
    ]
    assert [each.evaluation.serial for each in each_board.add(2)] == ["a"]
    each_board.join("a")
    assert each_board.add(3) == []
    (call,) = each_board.due()
    assert [(evaluation.serial, evaluation.item) for evaluation in call.evaluations] == [("a", 3)]


def test_given_an_answer_of_before_a_loss_when_the_board_is_back_then_it_is_not_awaited() -> None:
    each_board = started(1)
    (call,) = each_board.due()
    assert each_board.expects(call)
    each_board.lose("a", DeviceFailed("unplugged"))
    assert not each_board.expects(call)
    each_board.join("a")
    each_board.add(1)
    (fresh,) = each_board.due()
    assert not each_board.expects(call)
    assert each_board.expects(fresh)


@pytest.mark.parametrize("boards", [1, 2, 5])
def test_given_boards_when_items_are_evaluated_then_every_id_is_used_once(boards: int) -> None:
    each_board = started(5, *[f"b{n}" for n in range(boards)])
    ids = [evaluation.id for call in each_board.due() for evaluation in call.evaluations]
    ids += [evaluation.id for evaluation in each_board.reject(99)]
    assert len(set(ids)) == len(ids) == 6 * boards
