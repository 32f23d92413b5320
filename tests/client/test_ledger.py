"""The ledger: every evaluation has exactly one outcome, whatever happens and in whatever order."""

from __future__ import annotations

from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from icebus.client._evaluating.board_queue import Send, Slot
from icebus.client._evaluating.distribution import Failed
from icebus.client._evaluating.each_board import AHEAD, DEPTH, SPREAD, Ledger
from icebus.schemas.errors import DeviceFailed, MeasurementFailed

BOARDS = ("a", "b", "c")

SPARE = ("x", "y")
"""Boards that may take the place of others."""


class Evaluating(RuleBasedStateMachine):
    """Boards that accept, refuse, answer late, twice, out of order, and die."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger: Ledger[int] = Ledger("batch", BOARDS, patient=True)
        self.places = list(BOARDS)
        self.preparing: set[str] = set()
        self.items = 0
        self.asked: dict[str, Send[int]] = {}
        self.accepted: list[Slot[int]] = []
        self.known: list[Slot[int]] = []
        self.outcomes: Counter[tuple[str, int]] = Counter()
        self.ids: Counter[str] = Counter()
        self.told_end: set[str] = set()
        self.lost: set[str] = set()
        self.ended = False

    @property
    def forsaken(self) -> bool:
        return self.ledger.forsaken is not None

    def _settled(self, slots: list[Slot[int]]) -> None:
        self.outcomes.update((slot.serial, slot.item) for slot in slots)

    def _failed(self, failed: list[Failed[int]]) -> None:
        self._settled([each.slot for each in failed])

    @precondition(lambda self: not self.ended and (self.ledger.hungry or self.forsaken))
    @rule(count=st.integers(1, 5))
    def add(self, count: int) -> None:
        for _ in range(count):
            if not self.ledger.hungry and not self.forsaken:
                break
            self._failed(self.ledger.add(self.items))
            self.items += 1

    @precondition(lambda self: not self.ended and self.items)
    @rule()
    def reject(self) -> None:
        slots = self.ledger.reject(self.items)
        self._settled(slots)
        self.ids.update(slot.evaluation for slot in slots)
        self.items += 1

    @rule()
    def end(self) -> None:
        self.ledger.end()
        self.ended = True

    @rule()
    def send(self) -> None:
        for send in self.ledger.due():
            assert send.serial not in self.asked, "asked again before the answer"
            assert send.serial not in self.lost | self.preparing, "sent to a board that can't"
            if not send.again:
                assert send.serial not in self.told_end, "sent after the end was told"
            assert send.slots or not send.more, "a call without a purpose"
            assert self.ledger.outstanding(send.serial) <= DEPTH
            self.asked[send.serial] = send
            self.known += [slot for slot in send.slots if slot not in self.known]

    @rule()
    def doubt(self) -> None:
        self.ledger.doubt()

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        send = self._answer(data)
        self.accepted += send.slots
        self.ledger.accepted(send.serial)
        if not send.more and send.serial not in self.lost:
            self.told_end.add(send.serial)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), room=st.integers(-1, 10))
    def refuse(self, data: st.DataObject, room: int) -> None:
        send = self._answer(data)
        self.ledger.refused(send.serial, room)
        for each in self.ledger.due():
            assert each.serial != send.serial, "asked again at once"
            self.asked[each.serial] = each
            self.known += each.slots

    def _answer(self, data: st.DataObject) -> Send[int]:
        return self.asked.pop(data.draw(st.sampled_from(sorted(self.asked))))

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def outcome(self, data: st.DataObject) -> None:
        """Of anything that was ever sent: early, late, twice, of a lost board."""
        slot = data.draw(st.sampled_from(self.known))
        settled = self.ledger.settle(slot.serial, slot.evaluation)
        if settled is not None:
            assert settled == slot
            self._settled([settled])

    @rule(evaluation=st.text(max_size=3))
    def stray_outcome(self, evaluation: str) -> None:
        assert self.ledger.settle("a", evaluation) is None
        assert self.ledger.settle("not-a-board", evaluation) is None

    @rule(serial=st.sampled_from(BOARDS))
    def nudge(self, serial: str) -> None:
        self.ledger.nudge(serial)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(self.known))
        error = MeasurementFailed("silence")
        failed = self.ledger.fail(slot.serial, slot.evaluation, error)
        assert failed in ([], [Failed(slot, error)])
        self._failed(failed)

    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        serial = data.draw(st.sampled_from(self.places))
        self._failed(self.ledger.lose(serial, DeviceFailed("unplugged")))
        self._note_loss(serial)

    def _note_loss(self, serial: str) -> None:
        self.asked.pop(serial, None)
        self.lost.add(serial)
        self.preparing.discard(serial)
        assert set(self.places) & set(self.ledger.losses) == self.lost

    @rule(data=st.data())
    def join(self, data: st.DataObject) -> None:
        serial = data.draw(st.sampled_from(self.places))
        self.ledger.join(serial)
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
        self._failed(self.ledger.replace(serial, by, DeviceFailed("unplugged")))
        self._note_loss(serial)
        self.lost.discard(serial)
        self.places[self.places.index(serial)] = by
        self.told_end.discard(by)
        self.preparing.add(by)

    @precondition(lambda self: len(self.lost) == len(BOARDS))
    @rule()
    def give_up(self) -> None:
        assert self.ledger.give_up(DeviceFailed("unplugged")) == []
        assert self.forsaken

    @invariant()
    def at_most_one_outcome_each(self) -> None:
        assert all(count == 1 for count in self.outcomes.values())

    @invariant()
    def each_item_has_a_place_on_as_many_boards(self) -> None:
        assert self.ledger.copies == len(BOARDS)

    @invariant()
    def done_means_all(self) -> None:
        everything = len(BOARDS) * self.items
        assert self.ledger.done == (self.ended and len(self.outcomes) == everything)

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.ledger._items) <= SPREAD

    def teardown(self) -> None:
        """Left alone with boards that work, the batch comes to its end."""
        self.ledger.end()
        self.ended = True
        for _ in range(self.items + 10):
            if self.ledger.done:
                break
            for send in [*self.asked.values(), *self.ledger.due()]:
                self.ledger.accepted(send.serial)
                for slot in send.slots:
                    if self.ledger.settle(slot.serial, slot.evaluation):
                        self._settled([slot])
            self.asked.clear()
            for slot in self.accepted:
                if self.ledger.settle(slot.serial, slot.evaluation):
                    self._settled([slot])
            for serial in self.places:
                self.ledger.join(serial)
                self.ledger.nudge(serial)
        assert self.ledger.done
        self.done_means_all()
        self.at_most_one_outcome_each()


TestEvaluating = Evaluating.TestCase
TestEvaluating.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def started(count: int, *boards: str) -> Ledger[int]:
    ledger: Ledger[int] = Ledger("batch", boards or ("a",))
    for item in range(count):
        ledger.add(item)
    return ledger


def test_given_few_items_when_all_are_known_then_one_call_tells_the_end_too() -> None:
    ledger = started(2)
    ledger.end()
    (send,) = ledger.due()
    assert [slot.item for slot in send.slots] == [0, 1]
    assert not send.more


def test_given_an_end_known_late_when_all_was_sent_then_an_empty_call_tells_it() -> None:
    ledger = started(2)
    (send,) = ledger.due()
    assert send.more
    ledger.accepted("a")
    ledger.end()
    (last,) = ledger.due()
    assert last == Send("a", (), more=False)
    ledger.accepted("a")
    assert ledger.due() == []


def test_given_no_items_when_the_end_comes_then_nothing_is_sent() -> None:
    ledger = started(0)
    ledger.end()
    assert ledger.due() == []
    assert ledger.done


def test_given_a_full_board_when_half_of_it_is_done_then_it_is_filled_up_at_once() -> None:
    ledger = started(16)
    (send,) = ledger.due()
    assert len(send.slots) == DEPTH
    ledger.accepted("a")
    for slot in send.slots[: DEPTH // 2 - 1]:
        ledger.settle("a", slot.evaluation)
    assert ledger.due() == []
    ledger.settle("a", send.slots[-1].evaluation)
    (more,) = ledger.due()
    assert len(more.slots) == DEPTH // 2


def test_given_a_refusal_when_an_outcome_comes_then_no_more_than_its_room_is_sent() -> None:
    ledger = started(8)
    (send,) = ledger.due()
    ledger.refused("a", 2)
    assert ledger.due() == []
    ledger.nudge("a")
    (again,) = ledger.due()
    assert again.slots == send.slots[:2]


def test_given_a_slow_board_when_the_fast_one_runs_ahead_then_it_waits_at_the_spread() -> None:
    ledger = started(0, "fast", "slow")
    taken = 0
    while ledger.hungry:
        ledger.add(taken)
        taken += 1
        for send in ledger.due():
            if send.serial == "fast":
                ledger.accepted("fast")
                for slot in send.slots:
                    ledger.settle("fast", slot.evaluation)
    assert taken <= SPREAD + DEPTH


def test_given_nothing_sent_when_items_are_taken_then_only_a_few_ahead() -> None:
    ledger = started(0, "a", "b")
    taken = 0
    while ledger.hungry:
        ledger.add(taken)
        taken += 1
    assert taken == AHEAD


def test_given_a_closed_board_when_outcomes_may_be_lost_then_they_are_asked_for_again() -> None:
    ledger = started(2)
    ledger.end()
    (send,) = ledger.due()
    ledger.accepted("a")
    ledger.settle("a", send.slots[0].evaluation)
    assert ledger.due() == []
    ledger.doubt()
    assert ledger.due() == [Send("a", send.slots[1:], more=False, again=True)]


def test_given_a_cancelled_batch_when_a_call_is_refused_then_only_the_end_is_sent() -> None:
    ledger = started(20)
    (send,) = ledger.due()
    ledger.cancel()
    assert ledger.due() == []
    ledger.refused("a", 1)
    ledger.nudge("a")
    assert ledger.due() == [Send("a", (), more=False)]
    assert send.more


def test_given_a_lost_board_when_it_is_back_then_it_takes_part_in_what_comes_after() -> None:
    ledger = started(2, "a", "b")
    ledger.due()
    assert [each.slot.item for each in ledger.lose("a", DeviceFailed("unplugged"))] == [0, 1]
    assert [each.slot.serial for each in ledger.add(2)] == ["a"]
    ledger.join("a")
    assert ledger.add(3) == []
    (send,) = ledger.due()
    assert [(slot.serial, slot.item) for slot in send.slots] == [("a", 3)]


def test_given_an_answer_of_before_a_loss_when_the_board_is_back_then_it_is_not_awaited() -> None:
    ledger = started(1)
    (send,) = ledger.due()
    assert ledger.awaits(send)
    ledger.lose("a", DeviceFailed("unplugged"))
    assert not ledger.awaits(send)
    ledger.join("a")
    ledger.add(1)
    (fresh,) = ledger.due()
    assert not ledger.awaits(send)
    assert ledger.awaits(fresh)


@pytest.mark.parametrize("boards", [1, 2, 5])
def test_given_boards_when_items_are_evaluated_then_every_id_is_used_once(boards: int) -> None:
    ledger = started(5, *[f"b{n}" for n in range(boards)])
    ids = [slot.evaluation for send in ledger.due() for slot in send.slots]
    ids += [slot.evaluation for slot in ledger.reject(99)]
    assert len(set(ids)) == len(ids) == 6 * boards
