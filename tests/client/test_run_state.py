"""A run's decisions: what was accepted has exactly one outcome, in whatever order things happen."""

from __future__ import annotations

from collections import Counter
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from icebus.client._evaluating.distribution.any_board import AnyBoard
from icebus.client._evaluating.distribution.board_queue import EvaluateCall
from icebus.client._evaluating.distribution.distribution import Distribution
from icebus.client._evaluating.distribution.each_board import EachBoard
from icebus.client._evaluating.options import Options
from icebus.client._evaluating.running import run_state
from icebus.client._evaluating.running.run_state import (
    QUEUE_FULL_PAUSE,
    Added,
    Answered,
    BoardFinished,
    BoardReplaced,
    BoardsLost,
    BoardsServe,
    Closed,
    Effects,
    OutcomeCame,
    Reconnected,
    RunState,
    SourceEnded,
    Tick,
)
from icebus.schemas.errors import (
    BitstreamInvalid,
    BrokerUnavailable,
    DeadlineExceeded,
    DeviceFailed,
    DeviceNotHeld,
    IcebusError,
    InvalidRequest,
    MeasurementFailed,
    MeasurementUnsupported,
    QueueFull,
    ReservationEnded,
    WorkerLost,
)
from icebus.schemas.measuring import Failure, Result
from icebus.schemas.message import now as present

BOARDS = ["a", "b", "c"]

LOSSES: list[IcebusError] = [
    DeviceFailed("unplugged"),
    WorkerLost("its connection was lost", how="lost"),
    WorkerLost("restarted", how="restarted"),
    ReservationEnded("over"),
]
REFUSALS: list[IcebusError] = [
    QueueFull("full", capacity=4, depth=3),
    InvalidRequest("no such thing"),
    MeasurementUnsupported("one pin only"),
    DeadlineExceeded("no answer"),
    DeviceNotHeld("somebody else's"),
]
FAILURES: list[IcebusError] = [
    MeasurementFailed("silence"),
    MeasurementUnsupported("one pin only"),
    BitstreamInvalid("broken"),
    DeviceFailed("unplugged"),
    ReservationEnded("over"),
]


def told(serial: str, evaluation: str) -> dict[str, Any]:
    return {
        "serial": serial,
        "evaluation": evaluation,
        "batch": "batch",
        "bitstream": "x.bin",
        "sha256": "0" * 64,
        "at": present(),
    }


def result(serial: str, evaluation: str) -> Result:
    return Result(**told(serial, evaluation), upload=0.1, window=1.0)


def failure(serial: str, evaluation: str, error: IcebusError) -> Failure:
    return Failure(**told(serial, evaluation), error=error)


class RunMachine(RuleBasedStateMachine):
    """A run on boards that answer, refuse, repeat themselves, vanish and come back as they like."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.state = RunState[int](self.distribution(), Options(patience=30.0), self.now)
        self.items = 0
        self.ended = False
        self.serving = set(BOARDS)
        self.unanswered: list[EvaluateCall[int]] = []
        self.sent: list[tuple[str, str]] = []
        self.owed: list[tuple[str, str]] = []
        self.outcomes: Counter[str] = Counter()
        self.items_done: Counter[int] = Counter()

    def distribution(self) -> Distribution[int, Any]:
        raise NotImplementedError

    def note(self, effects: Effects[int]) -> None:
        for evaluation, _ in effects.outcomes:
            self.outcomes[evaluation.id] += 1
            self.items_done[evaluation.item] += 1

    def handle(self, happening: Any) -> None:
        self.note(self.state.handle(happening, self.now))

    # --- the source -----------------------------------------------------------------------------

    @precondition(lambda self: not self.ended)
    @rule(count=st.integers(1, 4))
    def add(self, count: int) -> None:
        for _ in range(count):
            if self.state.wants_more:
                self.handle(Added(self.items))
                self.items += 1

    @precondition(lambda self: not self.ended)
    @rule()
    def reject(self) -> None:
        self.handle(Added(self.items, BitstreamInvalid("broken")))
        self.items += 1

    @precondition(lambda self: not self.ended and self.items)
    @rule()
    def end(self) -> None:
        self.handle(SourceEnded())
        self.ended = True

    # --- the boards -----------------------------------------------------------------------------

    @rule()
    def call(self) -> None:
        for call in self.state.calls(self.now):
            assert all(each.serial != call.serial for each in self.unanswered if self.waits(each))
            self.unanswered.append(call)
            self.sent += [(each.serial, each.id) for each in call.evaluations]

    def waits(self, call: EvaluateCall[int]) -> bool:
        return self.state._distribution.expects(call)

    @precondition(lambda self: self.unanswered)
    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        self.answer(data.draw(st.sampled_from(self.unanswered)), None)

    @precondition(lambda self: self.unanswered)
    @rule(data=st.data(), error=st.sampled_from(REFUSALS))
    def refuse(self, data: st.DataObject, error: IcebusError) -> None:
        self.answer(data.draw(st.sampled_from(self.unanswered)), error)

    def answer(self, call: EvaluateCall[int], error: IcebusError | None) -> None:
        self.unanswered.remove(call)
        if error is None:
            self.owed += [(each.serial, each.id) for each in call.evaluations]
        self.handle(Answered(call, error))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def measure(self, data: st.DataObject) -> None:
        self.handle(OutcomeCame(result(*data.draw(st.sampled_from(self.sent)))))

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), error=st.sampled_from(FAILURES), lives=st.booleans())
    def fail(self, data: st.DataObject, error: IcebusError, lives: bool) -> None:
        serial, evaluation = data.draw(st.sampled_from(self.sent))
        self.handle(OutcomeCame(failure(serial, evaluation, error), lives))

    @rule(serial=st.sampled_from(BOARDS), error=st.sampled_from(LOSSES))
    def lose(self, serial: str, error: IcebusError) -> None:
        self.serving.discard(serial)
        self.handle(BoardsLost([serial], error))

    @rule(serial=st.sampled_from(BOARDS))
    def serve(self, serial: str) -> None:
        self.serving.add(serial)
        self.handle(BoardsServe([serial]))

    @rule(serial=st.sampled_from(BOARDS))
    def finish(self, serial: str) -> None:
        self.handle(BoardFinished(serial))

    @rule()
    def reconnect(self) -> None:
        self.handle(Reconnected())

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, 25.0]), connected=st.booleans())
    def tick(self, seconds: float, connected: bool) -> None:
        self.now += seconds
        self.handle(Tick(connected, frozenset(self.serving)))

    # --- what holds -----------------------------------------------------------------------------

    @invariant()
    def no_evaluation_has_two_outcomes(self) -> None:
        assert all(count == 1 for count in self.outcomes.values()), self.outcomes

    def teardown(self) -> None:
        """Let all boards work from now on: then the run ends, with an outcome for everything."""
        self.serving = set(BOARDS)
        if not self.ended:
            self.end()
        for _ in range(40 * (self.items + 1)):
            if self.state.done:
                break
            self.now += 1.0
            self.handle(BoardsServe(BOARDS))
            self.handle(Tick(True, frozenset(BOARDS)))
            self.call()
            for call in list(self.unanswered):
                self.answer(call, None)
            for serial, evaluation in list(self.owed):
                self.handle(OutcomeCame(result(serial, evaluation)))
            self.owed.clear()
        assert self.state.done
        self.no_evaluation_has_two_outcomes()
        assert self.items_done == self.expected()

    def expected(self) -> Counter[int]:
        raise NotImplementedError


class OnEachBoard(RunMachine):
    def distribution(self) -> Distribution[int, Any]:
        return EachBoard[int]("batch", BOARDS)

    def expected(self) -> Counter[int]:
        return Counter({item: len(BOARDS) for item in range(self.items)})


class OnAnyBoard(RunMachine):
    def distribution(self) -> Distribution[int, Any]:
        return AnyBoard[int]("batch", BOARDS)

    def expected(self) -> Counter[int]:
        return Counter(dict.fromkeys(range(self.items), 1))


TestOnEachBoard = OnEachBoard.TestCase
TestOnEachBoard.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestOnAnyBoard = OnAnyBoard.TestCase
TestOnAnyBoard.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def started(*boards: str) -> RunState[int]:
    """A run on each of some boards, of one item that all of them have accepted."""
    state = RunState[int](EachBoard("batch", boards), Options(broker_away=60.0), 0.0)
    state.handle(Added(1), 0.0)
    for call in state.calls(0.0):
        state.handle(Answered(call, None), 0.0)
    return state


def failed(effects: Effects[int]) -> list[tuple[str, type]]:
    return [(evaluation.serial, type(outcome)) for evaluation, outcome in effects.outcomes]


LOST = WorkerLost("its connection was lost", how="lost")


def test_given_a_worker_that_may_be_back_when_lost_then_its_boards_fail_after_a_while() -> None:
    state = started("a", "b")
    effects = state.handle(BoardsLost(["a"], LOST), 1.0)
    assert (failed(effects), effects.tick_in) == ([], run_state.WORKER_AWAY)
    assert failed(state.handle(Tick(True, {"b"}), 1.0 + run_state.WORKER_AWAY / 2)) == []
    assert failed(state.handle(Tick(True, {"b"}), 1.0 + run_state.WORKER_AWAY)) == [
        ("a", WorkerLost)
    ]


def test_given_a_worker_that_is_back_in_time_when_looked_at_then_it_is_asked_for_its_outcomes() -> (
    None
):
    state = started("a")
    state.handle(BoardsLost(["a"], LOST), 1.0)
    assert failed(state.handle(Tick(True, {"a"}), 1.0 + run_state.WORKER_AWAY)) == []
    (call,) = state.calls(7.0)
    assert call.again


@pytest.mark.parametrize("connected", [True, False])
def test_given_a_broker_that_was_away_when_workers_are_missed_then_their_time_begins_anew(
    connected: bool,
) -> None:
    state = started("a")
    state.handle(BoardsLost(["a"], LOST), 1.0)
    if connected:
        state.handle(Reconnected(), 5.0)
    effects = state.handle(Tick(connected, frozenset()), 1.0 + run_state.WORKER_AWAY)
    assert (failed(effects), effects.tick_in) == ([], run_state.WORKER_AWAY)


def test_given_a_full_queue_when_its_pause_is_over_then_it_is_tried_again() -> None:
    state = RunState[int](EachBoard("batch", ["a"]), Options(), 0.0)
    state.handle(Added(1), 0.0)
    (call,) = state.calls(0.0)
    effects = state.handle(Answered(call, QueueFull("full", capacity=64, depth=64)), 1.0)
    assert effects.tick_in == QUEUE_FULL_PAUSE
    assert state.calls(1.0) == []
    state.handle(Tick(True, {"a"}), 1.0 + QUEUE_FULL_PAUSE)
    assert [each.item for call in state.calls(2.0) for each in call.evaluations] == [1]


def test_given_a_broker_that_stays_away_when_time_is_up_then_all_fails_with_that() -> None:
    state = started("a", "b")
    assert failed(state.handle(Tick(False, {"a", "b"}), 1.0)) == []
    lost = failed(state.handle(Tick(False, {"a", "b"}), 62.0))
    assert lost == [("a", BrokerUnavailable), ("b", BrokerUnavailable)]


def test_given_a_board_taken_from_a_live_reservation_when_told_then_the_error_says_so() -> None:
    state = started("a")
    (evaluation,) = state._distribution._boards["a"].queue.outstanding
    came = OutcomeCame(failure("a", evaluation, ReservationEnded("over")))
    assert failed(state.handle(came, 1.0)) == [("a", DeviceNotHeld)]


def test_given_a_closed_run_when_outcomes_come_then_they_are_dropped_and_boards_are_told() -> None:
    state = started("a")
    (evaluation,) = state._distribution._boards["a"].queue.outstanding
    assert state.handle(Closed(), 1.0).calls
    (end,) = state.calls(1.0)
    assert (end.evaluations, end.more) == ((), False)
    assert state.handle(OutcomeCame(result("a", evaluation)), 1.0).outcomes == []


def test_given_a_board_in_anothers_place_when_it_serves_then_it_gets_what_comes_next() -> None:
    distribution = EachBoard[int]("batch", ["a"], waits_for_replacement=True)
    state = RunState[int](distribution, Options(), 0.0)
    assert failed(state.handle(BoardReplaced("a", "x"), 1.0)) == []
    state.handle(Added(1), 1.0)
    assert state.calls(1.0) == []
    state.handle(BoardsServe(["x"]), 2.0)
    assert [each.serial for call in state.calls(2.0) for each in call.evaluations] == ["x"]


def test_given_a_closed_run_when_a_full_queue_has_room_then_its_board_is_told_the_end() -> None:
    state = started("a")
    state.handle(Closed(), 1.0)
    (end,) = state.calls(1.0)
    state.handle(Answered(end, QueueFull("full", capacity=64, depth=64)), 1.0)
    assert state.handle(Tick(False, frozenset()), 100.0).outcomes == []
    (again,) = state.calls(100.0)
    assert (again.evaluations, again.more) == ((), False)


def test_given_a_board_that_cant_measure_so_then_another_gets_it_and_it_nothing() -> None:
    distribution = AnyBoard[int]("batch", ["a", "b"], 4)
    state = RunState[int](distribution, Options(), 0.0)
    for item in range(4):
        state.handle(Added(item), 0.0)
    calls = {call.serial: call for call in state.calls(0.0)}
    effects = state.handle(Answered(calls["a"], MeasurementUnsupported("one pin only")), 1.0)
    assert effects.outcomes == []
    state.handle(Answered(calls["b"], None), 1.0)
    state.handle(SourceEnded(), 1.0)
    state.handle(Tick(True, frozenset({"a", "b"})), 100.0)
    assert {call.serial for call in state.calls(100.0)} == {"b"}
