"""Evaluating while workers, devices, the reservation or the broker fail."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.client.background import in_background
from tests.client.outcomes import by_board_and_bitstream

from icebus.client import EvaluationsFailed, Failure, PulseCountClient, PulseCountResult
from icebus.client._evaluating.bitstreams import Item
from icebus.client._evaluating.distribution.each_board import EachBoard
from icebus.client._evaluating.options import Options
from icebus.client._evaluating.running.acknowledging import Acknowledger
from icebus.client._evaluating.running.run import Run
from icebus.client.kinds.pulsecount import PulseCountOutcome
from icebus.schemas.components import WorkerPhase
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import (
    BrokerUnavailable,
    DeadlineExceeded,
    DeviceUnplugged,
    ReservationEnded,
    WorkerLost,
)
from icebus.schemas.operations.reservations import DeviceFailedEvent, HoldState

if TYPE_CHECKING:
    from tests.client.scripted_control import ScriptedControl
    from tests.client.scripted_worker import ScriptedWorker

    from icebus.broker.embedded import EmbeddedBroker


def test_given_a_worker_that_dies_when_evaluating_then_all_of_it_fails_at_once(
    alice: PulseCountClient, w1: ScriptedWorker, w2: ScriptedWorker, circuits: list[Path]
) -> None:
    w1.measure = False
    with alice.reserve(2) as boards:
        run = boards.outcomes(circuits * 8)
        first = next(run)
        w1.evaluations.wait(lambda seen: len(seen) >= 4)
        died = time.monotonic()
        w1.die()
        outcomes = [first, *run]
        took = time.monotonic() - died
    lost = [o for o in outcomes if isinstance(o, Failure)]
    assert {o.serial for o in lost} == {"d1"}
    assert {type(o.error) for o in lost} == {WorkerLost}
    assert by_board_and_bitstream(outcomes) == Counter(
        {(s, p.name): 8 for s in ("d1", "d2") for p in circuits}
    )
    assert took < 5


@pytest.mark.parametrize("how", ["restart", "offline"])
def test_given_a_worker_that_goes_when_evaluating_then_what_it_accepted_is_lost(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path], how: str
) -> None:
    w1.measure = False
    with alice.reserve(1) as boards:
        run = boards.outcomes(circuits)
        with in_background(leave, w1, how):
            outcomes = list(run)
        assert [type(o.error) for o in outcomes if isinstance(o, Failure)] == [WorkerLost] * 3
        w1.measure = True
        w1.say(WorkerPhase.READY)
        deadline = Deadline.after(5)
        while boards.problem("d1") is not None and not deadline.expired:
            threading.Event().wait(0.01)
        assert len(list(boards.evaluate(circuits))) == 3


def test_given_a_worker_that_reconnects_when_evaluating_then_nothing_is_lost(
    alice: PulseCountClient, control: ScriptedControl, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    """Its will says that it is lost, and so does control; it says that it is there, and has all."""
    w1.measure = False
    with alice.reserve(1) as boards:
        outcomes: list[PulseCountOutcome] = []
        taking = threading.Thread(target=lambda: outcomes.extend(boards.outcomes(circuits)))
        taking.start()
        sent = w1.evaluations.wait(lambda seen: len(seen) == 3)
        lost = threading.Event()
        alice._connection.workers.listen(lambda _worker, _error: lost.set())
        w1.say(WorkerPhase.LOST)
        assert lost.wait(10)
        control.set(boards.id, HoldState.FAILED, "worker w1 is lost")
        failed = DeviceFailedEvent(
            reservation=boards.id, serial="d1", code="worker_lost", reason="worker w1 is lost"
        )
        control.emit(boards.id, "d1", "device_failed", failed)
        w1.say(WorkerPhase.READY)
        control.set(boards.id, HoldState.SERVING)
        w1.evaluations.wait(lambda seen: len(seen) == 6)  # it is asked for what it owes
        for call, serial, file in sent:
            w1.result(call, serial, file)
        taking.join(10)
        assert not taking.is_alive()
    assert [type(outcome) for outcome in outcomes] == [PulseCountResult] * 3


def leave(worker: ScriptedWorker, how: str) -> None:
    worker.evaluations.wait(lambda seen: len(seen) == 3)
    if how == "restart":
        worker.restart()
    else:
        worker.say(WorkerPhase.OFFLINE)


def test_given_a_lost_worker_when_outcomes_come_after_all_then_they_are_dropped(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    w1.measure = False
    with alice.reserve(1) as boards:
        run = boards.outcomes(circuits)
        with in_background(leave, w1, "restart"):
            outcomes = list(run)
        for call, serial, file in w1.evaluations.seen:
            w1.result(call, serial, file)
        late = {file.id for _, _, file in w1.evaluations.seen}
        w1.acknowledged.wait(lambda seen: late <= set(seen))
    assert len(outcomes) == 3


def test_given_no_board_left_when_the_source_has_no_end_then_the_run_ends_all_the_same(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    w1.measure = False
    with alice.reserve(1) as boards:
        with in_background(leave_once_busy, w1):
            outcomes: list[Any] = []
            with pytest.raises(WorkerLost):
                outcomes.extend(boards.outcomes(itertools.repeat(circuits[0])))
        assert len(outcomes) >= 5
        with pytest.raises(EvaluationsFailed):
            list(boards.evaluate([circuits[0]], serials=["d1"]))


def leave_once_busy(worker: ScriptedWorker) -> None:
    worker.evaluations.wait(lambda seen: len(seen) >= 5)
    worker.say(WorkerPhase.OFFLINE)


@pytest.mark.parametrize("by", ["event", "document"])
def test_given_a_device_that_fails_when_evaluating_then_the_others_go_on(
    alice: PulseCountClient,
    control: ScriptedControl,
    w1: ScriptedWorker,
    w2: ScriptedWorker,
    circuits: list[Path],
    by: str,
) -> None:
    w1.measure = False

    def fail() -> None:
        w1.evaluations.wait(lambda seen: len(seen) == 3)
        if by == "event":
            failed = DeviceFailedEvent(
                reservation=boards.id, serial="d1", code="device_unplugged", reason="unplugged"
            )
            control.emit(boards.id, "d1", "device_failed", failed)
            return
        before = control.reservations[boards.id]
        devices = [
            d.model_copy(update={"state": HoldState.FAILED}) if d.serial == "d1" else d
            for d in before.devices
        ]
        control.publish(before.model_copy(update={"devices": devices}))

    with alice.reserve(2) as boards, in_background(fail):
        outcomes = list(boards.outcomes(circuits))
    good = [o for o in outcomes if isinstance(o, PulseCountResult)]
    bad = [o for o in outcomes if isinstance(o, Failure)]
    assert {o.serial for o in good} == {"d2"}
    assert len(good) == len(bad) == 3
    assert [o.error.code for o in bad] == [
        "device_unplugged" if by == "event" else "device_failed"
    ] * 3
    assert isinstance(bad[0].error, DeviceUnplugged) == (by == "event")


def test_given_a_reservation_that_ends_when_evaluating_then_all_fails_with_that(
    alice: PulseCountClient, control: ScriptedControl, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    w1.measure = False
    with alice.reserve(1) as boards:

        def end() -> None:
            w1.evaluations.wait(lambda seen: len(seen) == 3)
            control.end(boards.id)

        with in_background(end):
            outcomes = list(boards.outcomes(circuits))
        assert [type(o.error) for o in outcomes if isinstance(o, Failure)] == [ReservationEnded] * 3
        with pytest.raises(ReservationEnded):
            list(boards.evaluate(circuits))


def test_given_a_silent_board_when_the_stall_deadline_passes_then_it_fails_typed(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    w1.measure = False
    with alice.reserve(1) as boards:
        outcomes = list(boards.outcomes(circuits, stall=0.5))
    assert [type(o.error) for o in outcomes if isinstance(o, Failure)] == [DeadlineExceeded] * 3


def test_given_a_broker_that_stays_away_when_evaluating_then_all_fails_typed(
    broker: EmbeddedBroker, alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    w1.measure = False
    boards = alice.reserve(1)
    each_board: EachBoard[Item] = EachBoard("batch", ["d1"])
    run = Run[PulseCountResult](
        alice._connection,
        boards,
        Acknowledger(alice._connection, boards),
        each_board,
        Options(broker_away=0.5),
    )
    taken = run.outcomes(circuits)
    with in_background(kill_broker, w1, broker):
        outcomes = list(taken)
    assert {type(o.error) for o in outcomes if isinstance(o, Failure)} == {BrokerUnavailable}
    assert len(outcomes) == 3
    alice._held.clear()  # nobody is there to release it to


def kill_broker(worker: ScriptedWorker, broker: EmbeddedBroker) -> None:
    worker.evaluations.wait(lambda seen: len(seen) == 3)
    broker.stop(Deadline.after(5))


def test_given_a_broker_killed_with_outcomes_under_way_when_it_is_back_then_none_is_lost(
    broker: EmbeddedBroker, alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    w1.measure = False
    with alice.reserve(1) as boards:
        results: list[PulseCountResult] = []
        taking = threading.Thread(target=lambda: results.extend(boards.evaluate(circuits)))
        taking.start()
        w1.evaluations.wait(lambda seen: len(seen) == 3)
        broker.child.process.kill()
        broker.child.process.wait()
        w1.measure = True  # an outcome that it has is repeated when it is asked for again
        broker.start(Deadline.after(5))  # from this thread: the broker ends with its starter
        taking.join(20)
    assert by_board_and_bitstream(results) == Counter(("d1", path.name) for path in circuits)


def test_given_a_board_that_moves_when_evaluating_then_what_it_owed_fails_typed(
    alice: PulseCountClient,
    control: ScriptedControl,
    w1: ScriptedWorker,
    w2: ScriptedWorker,
    circuits: list[Path],
) -> None:
    w1.measure = False
    with alice.reserve(1) as boards:

        def move() -> None:
            w1.evaluations.wait(lambda seen: len(seen) == 3)
            before = control.reservations[boards.id]
            devices = [d.model_copy(update={"worker": "w2"}) for d in before.devices]
            control.publish(before.model_copy(update={"devices": devices}))

        with in_background(move):
            outcomes = list(boards.outcomes(circuits))
        assert [type(o.error) for o in outcomes if isinstance(o, Failure)] == [DeviceUnplugged] * 3
        assert len(list(boards.evaluate(circuits))) == 3
    assert len(w2.evaluations.seen) == 3
