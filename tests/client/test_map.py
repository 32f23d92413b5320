"""Mapping on scripted workers that refuse, repeat themselves, die, restart and come back."""

from __future__ import annotations

import itertools
import pickle
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.client.background import in_background

from icebus.client import EvaluationsFailed, Failure, Progress, PulseCountClient, Result
from icebus.client._evaluating.distribution.any_board import MAX_DEPTH
from icebus.client.kinds.pulsecount import Boards
from icebus.schemas.components import WorkerPhase
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import (
    BitstreamInvalid,
    BitstreamUnsupported,
    DeviceUnplugged,
    IcebusError,
    MeasurementFailed,
    QueueFull,
    ReservationEnded,
    WorkerLost,
    WorkerRestarted,
)
from icebus.schemas.operations.reservations import DeviceFailedEvent, HoldState

if TYPE_CHECKING:
    from tests.client.scripted_control import ScriptedControl
    from tests.client.scripted_worker import ScriptedWorker

    from icebus.broker.embedded import EmbeddedBroker


@dataclass(eq=False)
class Individual:
    data: bytes
    name: str


@pytest.fixture
def population(circuits: list[Path]) -> list[Individual]:
    """Forty individuals of three genomes."""
    data = [path.read_bytes() for path in circuits]
    return [Individual(data[n % 3], f"i{n}") for n in range(40)]


def names(outcomes: list[Any]) -> list[str]:
    return sorted(outcome.bitstream for outcome in outcomes)


def answer(worker: ScriptedWorker, seen: tuple[Any, str, Any], pulses: int) -> None:
    call, serial, file = seen
    worker.result(call, serial, file, pulses)


def fail(worker: ScriptedWorker, seen: tuple[Any, str, Any], error: IcebusError) -> None:
    call, serial, file = seen
    worker.failure(call, serial, file, error)


def test_given_boards_of_two_workers_when_mapped_then_each_item_is_measured_once(
    alice: PulseCountClient,
    w1: ScriptedWorker,
    w2: ScriptedWorker,
    population: list[Individual],
) -> None:
    with alice.reserve(4) as boards:
        results = list(boards.map(population))
    assert names(results) == names_of(population)
    measured = [file.name for worker in (w1, w2) for _, _, file in worker.evaluations.seen]
    assert sorted(measured) == names_of(population)
    assert {result.serial for result in results} == {"d1", "d2", "d3", "d4"}


def names_of(population: list[Individual]) -> list[str]:
    return sorted(individual.name for individual in population)


def test_given_objects_when_mapped_or_evaluated_then_results_lead_back_to_the_very_objects(
    alice: PulseCountClient, w1: ScriptedWorker, population: list[Individual]
) -> None:
    broken = Individual(b"0123456789", "broken")
    with alice.reserve(1) as boards:
        for run in (boards.map_outcomes, boards.evaluate_outcomes):
            outcomes = list(run([*population[:5], broken]))
            found = {id(outcome.source) for outcome in outcomes}
            assert found == {id(individual) for individual in [*population[:5], broken]}
            assert all(outcome.source.name == outcome.bitstream for outcome in outcomes)
    result = next(outcome for outcome in outcomes if isinstance(outcome, Result))
    assert "source" not in repr(result)
    copy = pickle.loads(pickle.dumps(result))
    assert copy == result


def test_given_an_endless_generator_when_results_are_taken_then_little_is_read_ahead(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield circuits[taken % 3]

    with alice.reserve(serials=["d1", "d3"]) as boards:
        assert len(list(itertools.islice(boards.map(endless()), 100))) == 100
    assert taken <= 100 + 2 * MAX_DEPTH + 16 + 2 * MAX_DEPTH


def test_given_a_run_that_is_left_when_boards_hear_of_it_then_they_get_no_more(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    w1.measure = False
    with alice.reserve(serials=["d1", "d3"]) as boards:
        run = boards.map(itertools.repeat(circuits[0]))
        with in_background(lambda: w1.result(*w1.evaluations.wait(lambda seen: len(seen) == 4)[0])):
            next(run)
        run.close()
        calls = w1.calls.wait(
            lambda seen: sum(not call.args.get("more", True) for _, call in seen) == 2
        )
        last: dict[str, Any] = {c.serials[0]: c.args for name, c in calls if name == "evaluate"}
        assert all(args["bitstreams"] == [] and not args["more"] for args in last.values())
        for each in w1.evaluations.seen:
            w1.result(*each)
        w1.measure = True
        assert len(list(boards.map([circuits[0]] * 3))) == 3


def test_given_a_worker_that_dies_when_mapping_then_the_other_measures_all_at_once(
    alice: PulseCountClient,
    w1: ScriptedWorker,
    w2: ScriptedWorker,
    population: list[Individual],
) -> None:
    w1.measure = False

    def die() -> None:
        w1.evaluations.wait(lambda seen: len(seen) == 2)
        w1.die()

    with alice.reserve(2) as boards:
        began = time.monotonic()
        with in_background(die):
            results = list(boards.map(population))
        assert time.monotonic() - began < 5
    assert names(results) == names_of(population)
    assert {result.serial for result in results} == {"d2"}


@pytest.mark.parametrize("told", ["state", "failures", "device"])
def test_given_the_only_worker_when_it_is_restarted_then_the_run_goes_on_where_it_was(
    alice: PulseCountClient,
    control: ScriptedControl,
    w1: ScriptedWorker,
    population: list[Individual],
    told: str,
) -> None:
    w1.measure = False
    with alice.reserve(1) as boards:

        def restart() -> None:
            (first, second) = w1.evaluations.wait(lambda seen: len(seen) == 2)
            if told == "state":
                w1.say(WorkerPhase.LOST)
            elif told == "failures":
                fail(w1, first, WorkerRestarted("restarted"))
                fail(w1, second, WorkerRestarted("restarted"))
            else:
                failed = DeviceFailedEvent(
                    reservation=boards.id, serial="d1", code="device_unplugged", reason="cable"
                )
                control.emit(boards.id, "d1", "device_failed", failed)
            control.set(boards.id, HoldState.FAILED, "worker was restarted")
            w1.measure = True
            w1.restart()
            control.set(boards.id, HoldState.SERVING)

        with in_background(restart):
            results = list(boards.map(population))
    assert names(results) == names_of(population)


def test_given_no_board_that_comes_back_when_patience_ends_then_the_rest_fails_typed(
    alice: PulseCountClient, w1: ScriptedWorker, population: list[Individual]
) -> None:
    w1.measure = False

    def leave() -> None:
        seen = w1.evaluations.wait(lambda seen: len(seen) == 2)
        w1.result(*seen[0])
        w1.say(WorkerPhase.OFFLINE)

    results: list[Result] = []
    with alice.reserve(1) as boards:
        with in_background(leave), pytest.raises(EvaluationsFailed) as caught:
            results.extend(boards.map(population, patience=0.1))
        with pytest.raises(WorkerLost):
            list(boards.map_outcomes(itertools.repeat(population[0]), patience=0.1))
    assert len(results) == 1
    assert len(caught.value.failures) == len(population) - 1
    assert {type(failure.error) for failure in caught.value.failures} == {WorkerLost}
    assert "no board came back in 0.1 s" in str(caught.value)


def test_given_a_reservation_that_ends_when_mapping_then_nothing_waits_for_boards(
    alice: PulseCountClient,
    control: ScriptedControl,
    w1: ScriptedWorker,
    population: list[Individual],
) -> None:
    w1.measure = False
    with alice.reserve(1) as boards:

        def end() -> None:
            w1.evaluations.wait(lambda seen: len(seen) == 2)
            control.end(boards.id)

        with in_background(end):
            outcomes = list(boards.map_outcomes(population))
    assert names(outcomes) == names_of(population)
    assert {type(o.error) for o in outcomes if isinstance(o, Failure)} == {ReservationEnded}


def test_given_a_board_that_fails_a_measurement_when_mapping_then_another_measures_it(
    alice: PulseCountClient,
    w1: ScriptedWorker,
    w2: ScriptedWorker,
    population: list[Individual],
) -> None:
    w1.measure = False
    with alice.reserve(2) as boards:

        def go_silent() -> None:
            for each in w1.evaluations.wait(lambda seen: len(seen) == 1):
                fail(w1, each, MeasurementFailed("silence"))

        with in_background(go_silent):
            results = list(boards.map(population[:2]))
    assert {result.serial for result in results} == {"d2"}
    assert names(results) == names_of(population[:2])


def test_given_a_bitstream_no_board_can_measure_when_mapped_then_it_fails_after_three_attempts(
    alice: PulseCountClient, w1: ScriptedWorker, w2: ScriptedWorker, population: list[Individual]
) -> None:
    for worker in (w1, w2):
        original = worker.result

        def respond(
            call: Any,
            serial: str,
            file: Any,
            pulses: int = 1000,
            *,
            worker: ScriptedWorker = worker,
            original: Callable[..., None] = original,
        ) -> None:
            if file.name == "i3":
                worker.failure(call, serial, file, MeasurementFailed("silence"))
            elif file.name == "i4":
                worker.failure(call, serial, file, BitstreamUnsupported("a PLL"))
            else:
                original(call, serial, file, pulses)

        worker.result = respond  # type: ignore[method-assign]
    with alice.reserve(2) as boards:
        outcomes = list(boards.map_outcomes(population))
    assert names(outcomes) == names_of(population)
    failures = {o.bitstream: o for o in outcomes if isinstance(o, Failure)}
    assert set(failures) == {"i3", "i4"}
    assert "attempt 3 of 3, on d1, d2" in failures["i3"].error.message
    assert failures["i4"].error.message == "a PLL"
    measured = Counter(f.name for w in (w1, w2) for _, _, f in w.evaluations.seen)
    assert measured["i3"] == 3
    assert measured["i4"] == 1


def test_given_outcomes_of_a_lost_worker_that_come_late_when_mapped_then_the_first_counts_once(
    alice: PulseCountClient,
    w1: ScriptedWorker,
    w2: ScriptedWorker,
    population: list[Individual],
) -> None:
    w1.measure = w2.measure = False
    with alice.reserve(2) as boards:

        def late() -> None:
            first = w1.evaluations.wait(lambda seen: len(seen) == 1)
            w2.evaluations.wait(lambda seen: len(seen) == 1)
            w1.restart()
            answer(w2, w2.evaluations.seen[0], 1)
            again = w2.evaluations.wait(lambda seen: len(seen) == 2)
            answer(w1, first[0], 2)
            w1.acknowledged.wait(bool)
            answer(w2, again[1], 3)

        with in_background(late):
            results = list(boards.map(population[:2]))
        w2.acknowledged.wait(lambda seen: len(set(seen)) == 2)
    assert sorted((result.serial, result.pulses) for result in results) == [("d1", 2), ("d2", 1)]


def test_given_outcomes_that_come_twice_when_mapped_then_each_is_yielded_once(
    alice: PulseCountClient, w1: ScriptedWorker, population: list[Individual]
) -> None:
    w1.twice = True
    with alice.reserve(serials=["d1", "d3"]) as boards:
        results = list(boards.map(population))
    assert names(results) == names_of(population)


def test_given_a_full_queue_when_mapping_then_another_board_takes_what_was_refused(
    alice: PulseCountClient, w1: ScriptedWorker, w2: ScriptedWorker, population: list[Individual]
) -> None:
    w1.refuse = [QueueFull("full", capacity=64, depth=64)] * 2
    with alice.reserve(2) as boards:
        results = list(boards.map(population))
    assert names(results) == names_of(population)


def test_given_one_bad_bitstream_in_a_call_when_refused_then_only_that_one_fails(
    alice: PulseCountClient, w1: ScriptedWorker, population: list[Individual]
) -> None:
    original = w1._evaluate

    def evaluate(exchange: Any, call: Any) -> None:
        if any(file["name"] == "i1" for file in call.args["bitstreams"]):
            exchange.fail(BitstreamInvalid("i1: 7 bytes"))
        else:
            original(exchange, call)

    w1._evaluate = evaluate  # type: ignore[method-assign]
    with alice.reserve(1) as boards:
        for run in (boards.map_outcomes, boards.evaluate_outcomes):
            outcomes = list(run(population[:6]))
            assert names(outcomes) == names_of(population[:6])
            assert [o.bitstream for o in outcomes if isinstance(o, Failure)] == ["i1"]


def test_given_a_broker_killed_with_outcomes_under_way_when_it_is_back_then_none_is_lost(
    broker: EmbeddedBroker,
    alice: PulseCountClient,
    w1: ScriptedWorker,
    population: list[Individual],
) -> None:
    w1.measure = False
    with alice.reserve(serials=["d1", "d3"]) as boards:
        results: list[Result] = []
        taking = threading.Thread(target=lambda: results.extend(boards.map(population[:8])))
        taking.start()
        w1.evaluations.wait(lambda seen: len(seen) == 4)
        broker.child.process.kill()
        broker.child.process.wait()
        w1.measure = True  # an outcome that it has is repeated when it is asked for again
        broker.start(Deadline.after(5))  # from this thread: the broker ends with its starter
        taking.join(20)
    assert names(results) == names_of(population[:8])


def test_given_a_board_that_moves_when_mapping_then_it_goes_on_at_its_new_worker(
    alice: PulseCountClient,
    control: ScriptedControl,
    w1: ScriptedWorker,
    w2: ScriptedWorker,
    population: list[Individual],
) -> None:
    w1.measure = False
    with alice.reserve(1) as boards:

        def move() -> None:
            w1.evaluations.wait(lambda seen: len(seen) == 2)
            before = control.reservations[boards.id]
            devices = [d.model_copy(update={"worker": "w2"}) for d in before.devices]
            control.publish(before.model_copy(update={"devices": devices}))

        with in_background(move):
            results = list(boards.map(population))
    assert names(results) == names_of(population)
    assert len(w2.evaluations.seen) == len(population)


@pytest.mark.parametrize(
    ("run", "total"), [(Boards.map_outcomes, 6), (Boards.evaluate_outcomes, 12)]
)
def test_given_a_function_when_a_run_advances_then_it_is_told_how_far(
    alice: PulseCountClient,
    w1: ScriptedWorker,
    population: list[Individual],
    run: Any,
    total: int,
) -> None:
    told: list[Progress] = []
    source = [*population[:5], b"0123456789"]
    with alice.reserve(serials=["d1", "d3"]) as boards:
        outcomes = list(run(boards, source, progress=told.append))
        endless = list(itertools.islice(run(boards, iter(source), progress=told.append), 2))
    assert len(outcomes) == total
    assert [progress.done for progress in told[:total]] == list(range(1, total + 1))
    assert {progress.total for progress in told[:total]} == {total}
    assert told[total - 1].failed == total // 6
    assert told[total - 1].rate > 0
    assert [progress.total for progress in told[total:]] == [None] * len(endless)


def test_given_progress_when_wanted_then_a_bar_is_on_stderr_and_nothing_on_stdout(
    alice: PulseCountClient,
    w1: ScriptedWorker,
    population: list[Individual],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with alice.reserve(1) as boards:
        assert len(list(boards.map(population[:5], progress=True))) == 5
        assert len(list(boards.map(iter(population[:5]), progress=True))) == 5
    told = capsys.readouterr()
    assert "5/5" in told.err
    assert told.out == ""


def test_given_a_device_that_is_unplugged_when_mapping_then_its_error_is_told_if_none_is_left(
    alice: PulseCountClient,
    control: ScriptedControl,
    w1: ScriptedWorker,
    population: list[Individual],
) -> None:
    w1.measure = False
    with alice.reserve(1) as boards:

        def unplug() -> None:
            w1.evaluations.wait(lambda seen: len(seen) == 2)
            failed = DeviceFailedEvent(
                reservation=boards.id, serial="d1", code="device_unplugged", reason="unplugged"
            )
            control.set(boards.id, HoldState.FAILED, "unplugged")
            control.emit(boards.id, "d1", "device_failed", failed)

        with in_background(unplug):
            outcomes = list(boards.map_outcomes(population[:4], patience=0.1))
    assert all(isinstance(outcome, Failure) for outcome in outcomes)
    assert {o.error.code for o in outcomes if isinstance(o, Failure)} <= {
        "device_failed",
        DeviceUnplugged.code,
    }
