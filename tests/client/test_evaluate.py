"""Evaluating on scripted workers that repeat themselves, refuse, forget, die and restart."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.client.background import in_background

from icebus.client import (
    Bitstream,
    EvaluationsFailed,
    Failure,
    PulseCountClient,
    PulseCountHandler,
    PulseCountResult,
)
from icebus.client._evaluating.acknowledging import Acknowledger
from icebus.client._evaluating.bitstreams import Item
from icebus.client._evaluating.each_board import EachBoard
from icebus.client._evaluating.options import Options
from icebus.client._evaluating.run import Run
from icebus.client.kinds.pulsecount import PulseCountOutcome
from icebus.schemas.components import WorkerPhase
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import (
    BlobMissing,
    BrokerUnavailable,
    DeadlineExceeded,
    DeviceNotHeld,
    DeviceUnplugged,
    InvalidRequest,
    MeasurementFailed,
    QueueFull,
    ReservationEnded,
    UnknownDevice,
    UnknownMethod,
    WorkerLost,
)
from icebus.schemas.measuring import BatchFinished
from icebus.schemas.reservations import DeviceFailedEvent, HoldState

if TYPE_CHECKING:
    from tests.client.conftest import ScriptedControl, ScriptedWorker

    from icebus.broker.embedded import EmbeddedBroker


def pairs(outcomes: list[Any]) -> Counter[tuple[str, str]]:
    return Counter((outcome.serial, outcome.bitstream) for outcome in outcomes)


def test_given_two_boards_of_two_workers_when_evaluated_then_each_measures_each(
    alice: PulseCountClient, w1: ScriptedWorker, w2: ScriptedWorker, circuits: list[Path]
) -> None:
    with alice.reserve(2) as boards:
        results = list(boards.evaluate([str(path) for path in circuits]))
    expected = itertools.product(["d1", "d2"], [path.name for path in circuits])
    assert pairs(results) == Counter(expected)
    assert all(result.pulses == 1000 and result.exact for result in results)
    assert len(w1.blobs) == len(w2.blobs) == len(circuits)


def test_given_the_same_bitstream_on_many_boards_when_evaluated_then_its_bytes_cross_once(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    puts: list[str] = []
    original = w1._on_blob

    def count(incoming: Any) -> None:
        puts.append(incoming.ids["sha256"])
        original(incoming)

    w1._subscriptions[1].handler = count
    with alice.reserve(serials=["d1", "d3", "d5"]) as boards:
        assert len(list(boards.evaluate([circuits[0]] * 10))) == 30
    assert len(puts) == 1


def test_given_outcomes_that_come_twice_when_evaluated_then_each_is_yielded_once_and_told_once(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    told: list[PulseCountResult] = []
    alice.on("results")(told.append)
    w1.twice = True
    with alice.reserve(1) as boards:
        results = list(boards.evaluate(circuits))
        w1.acknowledged.wait(lambda seen: {r.evaluation for r in results} <= set(seen))
    alice.close()
    assert pairs(results) == pairs(told) == Counter(("d1", path.name) for path in circuits)


def test_given_outcomes_in_any_order_when_evaluated_then_annotations_find_back(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    @dataclass
    class Individual:
        data: bytes
        name: str
        annotations: dict[str, Any] = field(default_factory=dict)

    population = [Individual(p.read_bytes(), f"i{n}", {"n": n}) for n, p in enumerate(circuits)]
    w1.measure = False
    with alice.reserve(1) as boards:
        run = boards.outcomes(population)
        with in_background(answer_reversed, w1, len(population)):
            outcomes = list(run)
    assert [o.annotations["n"] for o in outcomes] == [2, 1, 0]
    assert [o.bitstream for o in outcomes] == ["i2", "i1", "i0"]


def answer_reversed(worker: ScriptedWorker, count: int) -> None:
    for call, serial, file in reversed(worker.evaluations.wait(lambda seen: len(seen) == count)):
        worker.result(call, serial, file)


def test_given_an_endless_generator_when_results_are_taken_then_little_is_read_ahead(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    taken = 0

    def endless() -> Iterator[tuple[str, bytes]]:
        nonlocal taken
        data = circuits[0].read_bytes()
        while True:
            taken += 1
            yield f"g{taken}", data

    with alice.reserve(1) as boards:
        first = list(itertools.islice(boards.evaluate(endless()), 100))
        assert len(first) == 100
        assert taken <= 100 + 64
    assert len({result.bitstream for result in first}) == 100


def test_given_a_generator_that_is_abandoned_when_left_then_boards_are_told_the_end(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    with alice.reserve(1) as boards:
        for _ in boards.evaluate(itertools.repeat(circuits[0])):
            break
        calls = w1.calls.wait(lambda seen: any(not c.args.get("more", True) for _, c in seen))
    ends = [call for name, call in calls if name == "evaluate" and not call.args["more"]]
    assert [call.args["bitstreams"] for call in ends] == [[]]


def test_given_a_generator_that_learns_from_results_when_it_ends_then_nothing_is_stuck(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    seen: list[PulseCountResult] = []

    def adaptive() -> Iterator[Path]:
        while len(seen) < 20:
            yield circuits[len(seen) % 3]

    with alice.reserve(1) as boards:
        for result in boards.evaluate(adaptive()):
            seen.append(result)  # noqa: PERF402 - the generator watches it grow
    assert len(seen) >= 20


def test_given_failures_when_evaluated_then_they_are_raised_after_the_last_result(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    w1.measure = False

    def answer() -> None:
        seen = w1.evaluations.wait(lambda seen: len(seen) == 3)
        call, serial, file = seen[0]
        w1.failure(call, serial, file, MeasurementFailed("silence"))
        w1.result(*seen[1])
        w1.result(*seen[2])

    with in_background(answer):
        results: list[PulseCountResult] = []
        with alice.reserve(1) as boards, pytest.raises(EvaluationsFailed) as caught:
            results.extend(boards.evaluate(circuits))
    assert len(results) == 2
    (failure,) = caught.value.failures
    assert (failure.serial, failure.bitstream) == ("d1", circuits[0].name)
    assert isinstance(failure.error, MeasurementFailed)
    assert "1 of 3" in str(caught.value)


def test_given_a_worker_without_the_file_when_called_then_it_is_sent_again(
    alice: PulseCountClient, w1: ScriptedWorker, w2: ScriptedWorker, circuits: list[Path]
) -> None:
    with alice.reserve(2) as boards:
        assert len(list(boards.evaluate(circuits[:1]))) == 2
        w1.blobs.clear()
        assert len(list(boards.evaluate(circuits[:1]))) == 2
        assert w1.blobs


def test_given_a_worker_that_never_gets_the_file_when_called_then_it_fails_with_that(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    w1.refuse = [BlobMissing("none here", sha256=[])] * 10
    with alice.reserve(1) as boards:
        (failure,) = boards.outcomes(circuits[:1])
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, BlobMissing)


def test_given_a_full_queue_when_it_has_room_again_then_all_are_measured(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    w1.refuse = [QueueFull("full", capacity=64, depth=64), QueueFull("full", capacity=64, depth=62)]
    with alice.reserve(1) as boards:
        results = list(boards.evaluate(circuits * 2))
    assert len(results) == 6
    sizes = [len(c.args["bitstreams"]) for name, c in w1.calls.seen if name == "evaluate"]
    assert sizes[1:3] == [1, 2]


@pytest.mark.parametrize("error", [DeviceNotHeld("not yours"), UnknownMethod("no such method")])
def test_given_a_board_that_refuses_when_evaluated_then_all_of_it_fails_so(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path], error: Any
) -> None:
    w1.refuse = [error]
    with alice.reserve(1) as boards:
        outcomes = list(boards.outcomes(circuits))
    assert [type(o.error) for o in outcomes if isinstance(o, Failure)] == [type(error)] * 3


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
    assert pairs(outcomes) == Counter({(s, p.name): 8 for s in ("d1", "d2") for p in circuits})
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
    assert pairs(results) == Counter(("d1", path.name) for path in circuits)


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


def test_given_a_broken_bitstream_when_evaluated_then_it_fails_and_is_never_sent(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    broken = bytearray(circuits[0].read_bytes())
    broken[5000] ^= 1
    with alice.reserve(1) as boards:
        outcomes = list(boards.outcomes([circuits[0], ("flipped", bytes(broken)), b"0123456789"]))
        assert {(o.bitstream, type(o).__name__) for o in outcomes} == {
            (circuits[0].name, "PulseCountResult"),
            ("flipped", "Failure"),
            ("unnamed", "Failure"),
        }
        assert len(w1.blobs) == 1
        sent = list(boards.evaluate([("flipped", bytes(broken))], validate=False))
    assert len(sent) == 1
    assert len(w1.blobs) == 2


def test_given_something_that_is_no_bitstream_when_evaluated_then_it_is_refused(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path], tmp_path: Path
) -> None:
    with alice.reserve(1) as boards:
        for nonsense in (42, tmp_path / "missing.bin", tmp_path, Bitstream):
            with pytest.raises(InvalidRequest):
                list(boards.evaluate([circuits[0], nonsense]))
        with pytest.raises(UnknownDevice):
            list(boards.evaluate(circuits, serials=["d7"]))
        with pytest.raises(InvalidRequest):
            list(boards.evaluate(circuits, serials=[]))
        assert list(boards.evaluate([])) == []
        assert len(list(boards.evaluate(str(circuits[0])))) == 1


def test_given_a_handler_when_a_batch_runs_then_its_hooks_are_told_on_a_thread_that_may_call(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    class Handler(PulseCountHandler):
        def __init__(self) -> None:
            self.told: list[object] = []

        def initialized(self, device: object) -> None:
            self.told.append(device)
            alice.reservations()

        def results(self, result: PulseCountResult) -> None:
            self.told.append(result)
            raise RuntimeError("a mistake of the user's")

        def finished(self, finished: BatchFinished) -> None:
            self.told.append(finished)

    handler = Handler()
    alice.register(handler)
    with alice.reserve(1) as boards:
        results = list(boards.evaluate(circuits))
    alice.close()
    told = [type(event).__name__ for event in handler.told]
    assert told == [
        "Initialized",
        "PulseCountResult",
        "PulseCountResult",
        "PulseCountResult",
        "BatchFinished",
    ]
    assert [e for e in handler.told if isinstance(e, PulseCountResult)] == results


def test_given_the_boards_of_another_worker_when_it_lies_about_them_then_it_is_not_believed(
    alice: PulseCountClient, w1: ScriptedWorker, w2: ScriptedWorker, circuits: list[Path]
) -> None:
    w1.measure = False
    with alice.reserve(1) as boards:

        def lie() -> None:
            ((call, serial, file),) = w1.evaluations.wait(lambda seen: len(seen) == 1)
            w2.result(call, serial, file, pulses=666)
            w1.result(call, serial, file, pulses=42)

        with in_background(lie):
            (result,) = boards.evaluate(circuits[:1])
    assert result.pulses == 42


def test_given_two_evaluations_at_once_when_they_share_a_board_then_each_gets_its_own(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    with alice.reserve(1) as boards:
        first = boards.evaluate([circuits[0]] * 5)
        second = boards.evaluate([circuits[1]] * 5)
        mixed = [r for pair in zip(first, second, strict=True) for r in pair]
    assert pairs(mixed) == {("d1", circuits[0].name): 5, ("d1", circuits[1].name): 5}
