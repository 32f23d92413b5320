"""Every item on any board, whatever happens: each has one outcome, and all ends."""

from __future__ import annotations

from collections import Counter

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from icebus.client._evaluating.distribution.any_board import (
    AHEAD_EACH,
    ATTEMPTS,
    MAX_DEPTH,
    SPREAD,
    AnyBoard,
)
from icebus.client._evaluating.distribution.board_queue import EvaluateCall, Evaluation
from icebus.client._evaluating.distribution.distribution import FailedEvaluation
from icebus.schemas.errors import (
    BitstreamUnsupported,
    MeasurementFailed,
    WorkerLost,
    WorkerRestarted,
)

LOST = WorkerLost("worker w1 died")
SILENT = MeasurementFailed("the board gave no report")
UNSUPPORTED = BitstreamUnsupported("it uses a PLL")
BOARDS = ("a", "b", "c")

SPARE = ("x", "y")
"""Boards that may take the place of others."""


class AnyBoardMachine(RuleBasedStateMachine):
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
        self.chosen: dict[int, str] = {}

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

    @precondition(lambda self: not self.ended and self.any_board.wants_more)
    @rule(data=st.data())
    def add_for_one(self, data: st.DataObject) -> None:
        serial = data.draw(st.sampled_from(sorted(self.any_board.serials)))
        failed = self.any_board.add(self.items, [serial])
        assert bool(failed) == (serial in self.lost)
        self.chosen[self.items] = serial
        self._failed(failed)
        self.items += 1

    @precondition(lambda self: not self.ended)
    @rule()
    def add_for_a_stranger(self) -> None:
        (failed,) = self.any_board.add(self.items, ["not-a-board"])
        assert failed.error.code == "device_not_held"
        self._failed([failed])
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
            assert all(self.chosen.get(item, call.serial) == call.serial for item in items)
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
            last = evaluation.item in self.chosen
            self.struck[evaluation.item] += ATTEMPTS if last else 1
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
        most = AHEAD_EACH * len(BOARDS + SPARE) + len(BOARDS + SPARE) * MAX_DEPTH + SPREAD
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


TestAnyBoard = AnyBoardMachine.TestCase
TestAnyBoard.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
