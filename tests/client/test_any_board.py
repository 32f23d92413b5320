"""Every item on any board: each has one outcome, whatever boards are lost, refuse or come back."""

from __future__ import annotations

import math
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from icebus.client._evaluating.any_board import AHEAD_EACH, ATTEMPTS, MAX_DEPTH, AnyBoard
from icebus.client._evaluating.board_queue import EvaluateCall, Evaluation
from icebus.client._evaluating.distribution import FailedEvaluation
from icebus.schemas.errors import (
    BitstreamUnsupported,
    DeviceFailed,
    MeasurementFailed,
    ReservationEnded,
    WorkerLost,
    WorkerRestarted,
)

BOARDS = ("a", "b", "c")

SPARE = ("x", "y")
"""Boards that may take the place of others."""

LOST = WorkerLost("worker w1 died")
SILENT = MeasurementFailed("the board gave no report")
UNSUPPORTED = BitstreamUnsupported("it uses a PLL")


class Mapping(RuleBasedStateMachine):
    """Boards that accept, refuse, answer late, twice, out of order, die and come back."""

    def __init__(self) -> None:
        super().__init__()
        self.any_board: AnyBoard[int] = AnyBoard("batch", BOARDS)
        self.items = 0
        self.asked: dict[str, EvaluateCall[int]] = {}
        self.known: list[Evaluation[int]] = []
        self.owed: dict[str, dict[str, Evaluation[int]]] = {serial: {} for serial in BOARDS + SPARE}
        self.preparing: set[str] = set()
        self.outcomes: Counter[int] = Counter()
        self.struck: Counter[int] = Counter()
        self.lost: set[str] = set()
        self.ended = False
        self.given_up = False

    def _failed(self, failed: list[FailedEvaluation[int]]) -> None:
        self.outcomes.update(each.evaluation.item for each in failed)

    @precondition(lambda self: not self.ended and (self.any_board.wants_more or self.given_up))
    @rule(count=st.integers(1, 5))
    def add(self, count: int) -> None:
        for _ in range(count):
            if not self.any_board.wants_more and not self.given_up:
                break
            self._failed(self.any_board.add(self.items))
            self.items += 1

    @precondition(lambda self: not self.ended)
    @rule()
    def reject(self) -> None:
        self.outcomes.update(evaluation.item for evaluation in self.any_board.reject(self.items))
        self.items += 1

    @rule()
    def end(self) -> None:
        self.any_board.end()
        self.ended = True

    def _take(self, call: EvaluateCall[int]) -> None:
        assert call.serial not in self.asked, "asked again before the answer"
        assert call.serial not in self.lost, "sent to a lost board"
        assert call.serial not in self.preparing, "sent to a board that is not ready"
        assert call.evaluations or not call.more, "a call without a purpose"
        assert len(call.evaluations) <= MAX_DEPTH
        elsewhere = {s.item for owed in self.owed.values() for s in owed.values()}
        if not call.again:
            items = [evaluation.item for evaluation in call.evaluations]
            pending = [item for item in items if not self.outcomes[item]]
            assert pending == items, "sent although it had its outcome"
            assert not elsewhere.intersection(items), "two boards measure one item"
            assert not {s.id for s in self.known} & {s.id for s in call.evaluations}
            suspects = [item for item in items if self.struck[item]]
            assert not suspects or len(items) == 1, "a suspect goes in a call of its own"
        self.asked[call.serial] = call
        self.owed[call.serial].update(
            (evaluation.id, evaluation) for evaluation in call.evaluations
        )
        self.known += [
            evaluation for evaluation in call.evaluations if evaluation not in self.known
        ]
        assert len(self.owed[call.serial]) <= MAX_DEPTH

    @rule()
    def call(self) -> None:
        for call in self.any_board.due():
            self._take(call)

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        call = self._answer(data)
        self.any_board.accepted(call.serial)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), room=st.integers(-1, 10))
    def refuse(self, data: st.DataObject, room: int) -> None:
        call = self._answer(data)
        self.any_board.refused(call.serial, room)
        if not call.again:
            for evaluation in call.evaluations:
                self.owed[call.serial].pop(evaluation.id, None)
                self.known.remove(evaluation)
        for each in self.any_board.due():
            assert each.serial != call.serial, "asked again at once"
            self._take(each)

    def _answer(self, data: st.DataObject) -> EvaluateCall[int]:
        return self.asked.pop(data.draw(st.sampled_from(sorted(self.asked))))

    @rule()
    def ask_again(self) -> None:
        self.any_board.ask_again()

    @precondition(lambda self: self.known)
    @rule(data=st.data(), took=st.floats(0, 10))
    def outcome(self, data: st.DataObject, took: float) -> None:
        """Of anything that was ever sent: early, late, twice, of a board that was lost."""
        evaluation = data.draw(st.sampled_from(self.known))
        completed = self.any_board.complete(evaluation.serial, evaluation.id, took)
        self.owed[evaluation.serial].pop(evaluation.id, None)
        assert (completed is None) == bool(self.outcomes[evaluation.item]), "the first one counts"
        if completed is not None:
            assert completed == evaluation
            self.outcomes[evaluation.item] += 1

    @precondition(lambda self: self.known)
    @rule(data=st.data(), error=st.sampled_from([SILENT, UNSUPPORTED]))
    def fail(self, data: st.DataObject, error: MeasurementFailed | BitstreamUnsupported) -> None:
        evaluation = data.draw(st.sampled_from(self.known))
        owed = self.owed[evaluation.serial].pop(evaluation.id, None)
        before = self.outcomes[evaluation.item]
        failed = self.any_board.fail(evaluation.serial, evaluation.id, error)
        if error is SILENT and owed and not before:
            self.struck[evaluation.item] += 1
        if before or (error is SILENT and (not owed or self.struck[evaluation.item] < ATTEMPTS)):
            assert failed == []
        else:
            (only,) = failed
            assert only.evaluation == evaluation
            assert only.error.code == error.code
        self._failed(failed)

    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        serial = data.draw(st.sampled_from(list(self.any_board.serials)))
        self._failed(self.any_board.lose(serial, LOST))
        self._note_loss(serial)
        assert set(self.any_board.losses) == self.lost

    @precondition(lambda self: any(self.owed.values()))
    @rule(data=st.data())
    def fail_with_the_board(self, data: st.DataObject) -> None:
        serial = data.draw(st.sampled_from(sorted(s for s, owed in self.owed.items() if owed)))
        evaluation = next(iter(self.owed[serial].values()))
        self._failed(self.any_board.fail(serial, evaluation.id, WorkerRestarted("restarted")))
        self._note_loss(serial)

    def _note_loss(self, serial: str) -> None:
        if owed := list(self.owed[serial].values()):
            self.struck[owed[0].item] += 1
        self.owed[serial].clear()
        self.asked.pop(serial, None)
        self.lost.add(serial)
        self.preparing.discard(serial)

    @precondition(lambda self: self.lost or self.preparing)
    @rule(data=st.data())
    def join(self, data: st.DataObject) -> None:
        serial = data.draw(st.sampled_from(sorted(self.lost | self.preparing)))
        self.any_board.join(serial)
        if serial in self.lost:
            self.given_up = False
        self.lost.discard(serial)
        self.preparing.discard(serial)

    @rule(data=st.data(), by=st.sampled_from(BOARDS + SPARE))
    def replace(self, data: st.DataObject, by: str) -> None:
        """By a board that is new or was lost; control gives no board twice."""
        serial = data.draw(st.sampled_from(list(self.any_board.serials)))
        if by == serial or (by in self.any_board.serials and by not in self.lost):
            return
        self._failed(self.any_board.replace(serial, by, LOST))
        self._note_loss(serial)
        self.lost.discard(by)
        self.preparing.add(by)
        self.given_up = False
        assert set(self.any_board.losses) == self.lost

    @precondition(lambda self: len(self.lost) == len(self.any_board.serials))
    @rule()
    def give_up(self) -> None:
        self._failed(self.any_board.give_up(LOST))
        self.given_up = True

    @rule(serial=st.sampled_from(BOARDS), evaluation=st.text(max_size=3))
    def stray_outcome(self, serial: str, evaluation: str) -> None:
        assert self.any_board.complete(serial, evaluation) is None
        assert self.any_board.complete("not-a-board", evaluation) is None
        assert self.any_board.fail(serial, evaluation, SILENT) == []

    @rule(serial=st.sampled_from(BOARDS))
    def resume(self, serial: str) -> None:
        self.any_board.resume(serial)

    @invariant()
    def at_most_one_outcome_each(self) -> None:
        assert all(count == 1 for item, count in self.outcomes.items() if count)

    @invariant()
    def done_means_all(self) -> None:
        assert self.any_board.done == (self.ended and sum(self.outcomes.values()) == self.items)

    @invariant()
    def memory_is_bounded(self) -> None:
        most = AHEAD_EACH * len(BOARDS + SPARE) + len(BOARDS + SPARE) * MAX_DEPTH
        assert len(self.any_board._pending) <= most
        assert len(self.any_board._sent) <= most + sum(
            t.sent - 1 for t in self.any_board._pending.values()
        )

    def teardown(self) -> None:
        """Left alone with boards that work, the batch comes to its end."""
        self.any_board.end()
        self.ended = True
        for serial in sorted(self.lost | self.preparing):
            self.any_board.join(serial)
        self.lost.clear()
        self.preparing.clear()
        for _ in range(self.items + 10):
            if self.any_board.done:
                break
            for serial in self.any_board.serials:
                self.any_board.resume(serial)
            for call in self.any_board.due():
                self._take(call)
            for serial in list(self.asked):
                self.any_board.accepted(serial)
                del self.asked[serial]
            for serial, owed in self.owed.items():
                for evaluation_id in list(owed):
                    evaluation = self.any_board.complete(serial, evaluation_id)
                    del owed[evaluation_id]
                    if evaluation is not None:
                        self.outcomes[evaluation.item] += 1
        assert self.any_board.done
        self.done_means_all()
        self.at_most_one_outcome_each()
        assert not self.any_board._sent


TestMapping = Mapping.TestCase
TestMapping.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


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
