"""The pool: every item has exactly one outcome, whatever boards are lost, refuse or come back."""

from __future__ import annotations

import math
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from icebus.client._evaluating.any_board import AHEAD_EACH, ATTEMPTS, MAX_DEPTH, Pool
from icebus.client._evaluating.board_queue import Send, Slot
from icebus.client._evaluating.distribution import Failed
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
        self.pool: Pool[int] = Pool("batch", BOARDS)
        self.items = 0
        self.asked: dict[str, Send[int]] = {}
        self.known: list[Slot[int]] = []
        self.owed: dict[str, dict[str, Slot[int]]] = {serial: {} for serial in BOARDS + SPARE}
        self.preparing: set[str] = set()
        self.outcomes: Counter[int] = Counter()
        self.struck: Counter[int] = Counter()
        self.lost: set[str] = set()
        self.ended = False
        self.given_up = False

    def _failed(self, failed: list[Failed[int]]) -> None:
        self.outcomes.update(each.slot.item for each in failed)

    @precondition(lambda self: not self.ended and (self.pool.hungry or self.given_up))
    @rule(count=st.integers(1, 5))
    def add(self, count: int) -> None:
        for _ in range(count):
            if not self.pool.hungry and not self.given_up:
                break
            self._failed(self.pool.add(self.items))
            self.items += 1

    @precondition(lambda self: not self.ended)
    @rule()
    def reject(self) -> None:
        self.outcomes.update(slot.item for slot in self.pool.reject(self.items))
        self.items += 1

    @rule()
    def end(self) -> None:
        self.pool.end()
        self.ended = True

    def _take(self, send: Send[int]) -> None:
        assert send.serial not in self.asked, "asked again before the answer"
        assert send.serial not in self.lost, "sent to a lost board"
        assert send.serial not in self.preparing, "sent to a board that is not ready"
        assert send.slots or not send.more, "a call without a purpose"
        assert len(send.slots) <= MAX_DEPTH
        elsewhere = {s.item for owed in self.owed.values() for s in owed.values()}
        if not send.again:
            items = [slot.item for slot in send.slots]
            pending = [item for item in items if not self.outcomes[item]]
            assert pending == items, "sent although it had its outcome"
            assert not elsewhere.intersection(items), "two boards measure one item"
            assert not {s.evaluation for s in self.known} & {s.evaluation for s in send.slots}
            suspects = [item for item in items if self.struck[item]]
            assert not suspects or len(items) == 1, "a suspect goes in a call of its own"
        self.asked[send.serial] = send
        self.owed[send.serial].update((slot.evaluation, slot) for slot in send.slots)
        self.known += [slot for slot in send.slots if slot not in self.known]
        assert len(self.owed[send.serial]) <= MAX_DEPTH

    @rule()
    def send(self) -> None:
        for send in self.pool.due():
            self._take(send)

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        send = self._answer(data)
        self.pool.accepted(send.serial)

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), room=st.integers(-1, 10))
    def refuse(self, data: st.DataObject, room: int) -> None:
        send = self._answer(data)
        self.pool.refused(send.serial, room)
        if not send.again:
            for slot in send.slots:
                self.owed[send.serial].pop(slot.evaluation, None)
                self.known.remove(slot)
        for each in self.pool.due():
            assert each.serial != send.serial, "asked again at once"
            self._take(each)

    def _answer(self, data: st.DataObject) -> Send[int]:
        return self.asked.pop(data.draw(st.sampled_from(sorted(self.asked))))

    @rule()
    def doubt(self) -> None:
        self.pool.doubt()

    @precondition(lambda self: self.known)
    @rule(data=st.data(), took=st.floats(0, 10))
    def outcome(self, data: st.DataObject, took: float) -> None:
        """Of anything that was ever sent: early, late, twice, of a board that was lost."""
        slot = data.draw(st.sampled_from(self.known))
        settled = self.pool.settle(slot.serial, slot.evaluation, took)
        self.owed[slot.serial].pop(slot.evaluation, None)
        assert (settled is None) == bool(self.outcomes[slot.item]), "the first one counts"
        if settled is not None:
            assert settled == slot
            self.outcomes[slot.item] += 1

    @precondition(lambda self: self.known)
    @rule(data=st.data(), error=st.sampled_from([SILENT, UNSUPPORTED]))
    def fail(self, data: st.DataObject, error: MeasurementFailed | BitstreamUnsupported) -> None:
        slot = data.draw(st.sampled_from(self.known))
        owed = self.owed[slot.serial].pop(slot.evaluation, None)
        before = self.outcomes[slot.item]
        failed = self.pool.fail(slot.serial, slot.evaluation, error)
        if error is SILENT and owed and not before:
            self.struck[slot.item] += 1
        if before or (error is SILENT and (not owed or self.struck[slot.item] < ATTEMPTS)):
            assert failed == []
        else:
            (only,) = failed
            assert only.slot == slot
            assert only.error.code == error.code
        self._failed(failed)

    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        serial = data.draw(st.sampled_from(list(self.pool.serials)))
        self._failed(self.pool.lose(serial, LOST))
        self._note_loss(serial)
        assert set(self.pool.losses) == self.lost

    @precondition(lambda self: any(self.owed.values()))
    @rule(data=st.data())
    def fail_with_the_board(self, data: st.DataObject) -> None:
        serial = data.draw(st.sampled_from(sorted(s for s, owed in self.owed.items() if owed)))
        slot = next(iter(self.owed[serial].values()))
        self._failed(self.pool.fail(serial, slot.evaluation, WorkerRestarted("restarted")))
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
        self.pool.join(serial)
        if serial in self.lost:
            self.given_up = False
        self.lost.discard(serial)
        self.preparing.discard(serial)

    @rule(data=st.data(), by=st.sampled_from(BOARDS + SPARE))
    def replace(self, data: st.DataObject, by: str) -> None:
        """By a board that is new or was lost; control gives no board twice."""
        serial = data.draw(st.sampled_from(list(self.pool.serials)))
        if by == serial or (by in self.pool.serials and by not in self.lost):
            return
        self._failed(self.pool.replace(serial, by, LOST))
        self._note_loss(serial)
        self.lost.discard(by)
        self.preparing.add(by)
        self.given_up = False
        assert set(self.pool.losses) == self.lost

    @precondition(lambda self: len(self.lost) == len(self.pool.serials))
    @rule()
    def give_up(self) -> None:
        self._failed(self.pool.give_up(LOST))
        self.given_up = True

    @rule(serial=st.sampled_from(BOARDS), evaluation=st.text(max_size=3))
    def stray_outcome(self, serial: str, evaluation: str) -> None:
        assert self.pool.settle(serial, evaluation) is None
        assert self.pool.settle("not-a-board", evaluation) is None
        assert self.pool.fail(serial, evaluation, SILENT) == []

    @rule(serial=st.sampled_from(BOARDS))
    def nudge(self, serial: str) -> None:
        self.pool.nudge(serial)

    @invariant()
    def at_most_one_outcome_each(self) -> None:
        assert all(count == 1 for item, count in self.outcomes.items() if count)

    @invariant()
    def done_means_all(self) -> None:
        assert self.pool.done == (self.ended and sum(self.outcomes.values()) == self.items)

    @invariant()
    def memory_is_bounded(self) -> None:
        most = AHEAD_EACH * len(BOARDS + SPARE) + len(BOARDS + SPARE) * MAX_DEPTH
        assert len(self.pool._open) <= most
        assert len(self.pool._sent) <= most + sum(t.sent - 1 for t in self.pool._open.values())

    def teardown(self) -> None:
        """Left alone with boards that work, the batch comes to its end."""
        self.pool.end()
        self.ended = True
        for serial in sorted(self.lost | self.preparing):
            self.pool.join(serial)
        self.lost.clear()
        self.preparing.clear()
        for _ in range(self.items + 10):
            if self.pool.done:
                break
            for serial in self.pool.serials:
                self.pool.nudge(serial)
            for send in self.pool.due():
                self._take(send)
            for serial in list(self.asked):
                self.pool.accepted(serial)
                del self.asked[serial]
            for serial, owed in self.owed.items():
                for evaluation in list(owed):
                    slot = self.pool.settle(serial, evaluation)
                    del owed[evaluation]
                    if slot is not None:
                        self.outcomes[slot.item] += 1
        assert self.pool.done
        self.done_means_all()
        self.at_most_one_outcome_each()
        assert not self.pool._sent


TestMapping = Mapping.TestCase
TestMapping.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def started(count: int, *boards: str, total: int | None = None) -> Pool[int]:
    pool: Pool[int] = Pool("batch", boards or ("a",), total)
    for item in range(count):
        pool.add(item)
    return pool


def items(send: Send[int]) -> list[int]:
    return [slot.item for slot in send.slots]


def by_board(pool: Pool[int]) -> dict[str, list[int]]:
    return {send.serial: items(send) for send in pool.due()}


def accept_all(pool: Pool[int]) -> dict[str, list[Slot[int]]]:
    sent = {send.serial: list(send.slots) for send in pool.due()}
    for serial in sent:
        pool.accepted(serial)
    return sent


def test_given_boards_of_unknown_speed_when_started_then_each_gets_two_in_order() -> None:
    pool = started(8, "a", "b")
    assert by_board(pool) == {"a": [0, 1], "b": [2, 3]}


@pytest.mark.parametrize(
    ("took", "depth"), [(0.01, 12), (0.05, 11), (0.125, 5), (0.25, 3), (0.5, 2), (1.0, 2), (5.0, 2)]
)
def test_given_how_long_a_board_takes_when_it_is_filled_then_the_queue_covers_half_a_second(
    took: float, depth: int
) -> None:
    pool = started(20)
    (first, second) = accept_all(pool)["a"]
    pool.settle("a", first.evaluation, took)
    pool.settle("a", second.evaluation, took)
    (send,) = pool.due()
    assert len(send.slots) == depth


def test_given_few_items_left_when_given_out_then_no_board_gets_more_than_its_share() -> None:
    pool = started(3, "a", "b", "c", total=3)
    assert sorted(map(len, by_board(pool).values())) == [1, 1, 1]


def test_given_an_unknown_end_when_it_comes_then_shares_are_fair_from_there() -> None:
    pool = started(4, "a", "b", "c", "d")
    pool.end()
    assert by_board(pool) == {"a": [0], "b": [1], "c": [2], "d": [3]}


def windows(items: int, boards: int, times: list[float] | None = None) -> float:
    """Runs a pool on boards that take a second for an item; returns when the last was done."""
    names = [f"b{n}" for n in range(boards)]
    pool: Pool[int] = Pool("batch", names, items)
    free_at = dict.fromkeys(names, 0.0)
    queues: dict[str, list[Slot[int]]] = {name: [] for name in names}
    now, taken = 0.0, 0
    while not pool.done:
        while pool.hungry and taken < items:
            pool.add(taken)
            taken += 1
        if taken == items:
            pool.end()
        for send in pool.due():
            if not queues[send.serial]:
                free_at[send.serial] = now + 1.0
            queues[send.serial] += send.slots
            pool.accepted(send.serial)
        serial = min((name for name in names if queues[name]), key=lambda name: free_at[name])
        now = free_at[serial]
        pool.settle(serial, queues[serial].pop(0).evaluation, 1.0)
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
    pool = started(8, "a", "b")
    accept_all(pool)
    assert pool.lose("a", LOST) == []
    for slot in list(pool._boards["b"].talk.outstanding.values()):
        pool.settle("b", slot.evaluation)
    (send,) = pool.due()
    assert items(send) == [0], "the one that may have been its undoing goes alone"
    pool.accepted("b")
    (send,) = pool.due()
    assert items(send) == [1]


def test_given_a_bitstream_that_kills_what_measures_it_when_mapped_then_it_alone_fails() -> None:
    pool = started(8, "a", "b", total=8)
    poison = 2
    done: list[int] = []
    failed: list[Failed[int]] = []
    for _ in range(50):
        if pool.hungry and pool._known == 8:
            pool.end()
        for serial, slots in accept_all(pool).items():
            for slot in slots:
                if slot.item == poison:
                    failed += pool.lose(serial, LOST)
                    pool.join(serial)
                    break
                if pool.settle(serial, slot.evaluation, 0.05):
                    done.append(slot.item)
    assert pool.done
    assert sorted(done) == [item for item in range(8) if item != poison]
    ((slot, error),) = [(each.slot, each.error) for each in failed]
    assert slot.item == poison
    assert isinstance(error, WorkerLost)
    assert "attempt 3 of 3, on a, b" in str(error)
    assert error.details["attempts"] == ATTEMPTS


def test_given_an_item_that_a_board_failed_when_others_live_then_they_are_preferred() -> None:
    pool = started(1, "a", "b")
    pool.end()
    ((slot,),) = accept_all(pool).values()
    assert pool.fail("a", slot.evaluation, SILENT) == []
    assert by_board(pool) == {"b": [0]}


def test_given_one_board_when_it_fails_an_item_then_it_tries_again_three_times_in_all() -> None:
    pool = started(1)
    pool.end()
    for _ in range(ATTEMPTS - 1):
        ((slot,),) = accept_all(pool).values()
        assert pool.fail("a", slot.evaluation, SILENT) == []
    ((slot,),) = accept_all(pool).values()
    (failed,) = pool.fail("a", slot.evaluation, SILENT)
    assert isinstance(failed.error, MeasurementFailed)
    assert pool.done


def test_given_an_error_of_the_bitstream_when_told_then_it_is_final() -> None:
    pool = started(1, "a", "b")
    pool.end()
    ((slot,),) = accept_all(pool).values()
    assert pool.fail("a", slot.evaluation, UNSUPPORTED) == [Failed(slot, UNSUPPORTED)]
    assert pool.done


def test_given_a_board_that_says_it_fails_when_told_of_one_then_the_rest_goes_elsewhere() -> None:
    pool = started(4, "a", "b", total=4)
    pool.end()
    sent = accept_all(pool)
    assert pool.fail("a", sent["a"][0].evaluation, DeviceFailed("unplugged")) == []
    assert set(pool.losses) == {"a"}
    for slot in sent["b"]:
        pool.settle("b", slot.evaluation, 1.0)
    assert by_board(pool) == {"b": [0]}


def test_given_a_lost_board_when_it_is_lost_for_good_then_that_is_the_loss() -> None:
    pool = started(1, "a")
    ended = ReservationEnded("over")
    assert pool.lose("a", LOST) == pool.lose("a", ended) == pool.lose("a", LOST) == []
    assert pool.losses == {"a": ended}


def test_given_a_late_outcome_when_another_board_measures_it_already_then_the_first_wins() -> None:
    pool = started(1, "a", "b")
    pool.end()
    ((first,),) = accept_all(pool).values()
    pool.lose("a", LOST)
    ((second,),) = accept_all(pool).values()
    assert second.serial == "b"
    assert second.evaluation != first.evaluation
    assert pool.settle("a", first.evaluation) == first
    assert pool.done
    assert pool.settle("b", second.evaluation, 1.0) is None
    assert pool.outstanding("b") == 0


def test_given_a_full_queue_when_another_board_has_room_then_it_gets_the_items() -> None:
    pool = started(2, "a", "b")
    (send,) = pool.due()
    assert items(send) == [0, 1]
    pool.refused("a", 1)
    assert by_board(pool) == {"b": [0, 1]}


def test_given_no_board_left_when_given_up_then_all_that_is_open_fails_and_so_does_the_rest() -> (
    None
):
    pool = started(4, "a", "b")
    accept_all(pool)
    pool.lose("a", LOST)
    pool.lose("b", LOST)
    assert not pool.hungry
    assert sorted(each.slot.item for each in pool.give_up(LOST)) == [0, 1, 2, 3]
    assert pool.forsaken is LOST
    (failed,) = pool.add(4)
    assert failed.error is LOST
    pool.end()
    assert pool.done


def test_given_a_cancelled_batch_when_boards_have_work_still_then_only_the_end_is_sent() -> None:
    pool = started(8, "a", "b")
    accept_all(pool)
    pool.cancel()
    assert pool.due() == [Send("a", (), more=False), Send("b", (), more=False)]
    pool.accepted("a")
    pool.lose("b", LOST)
    assert pool.due() == []
