"""Evaluating on scripted workers that repeat themselves, refuse, forget, die and restart."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.client.background import in_background
from tests.client.outcomes import by_board_and_bitstream

from icebus.client import (
    Bitstream,
    EvaluationsFailed,
    Failure,
    PulseCountClient,
    PulseCountHandler,
    PulseCountResult,
)
from icebus.schemas.errors import (
    BlobMissing,
    DeviceNotHeld,
    InvalidRequest,
    MeasurementFailed,
    QueueFull,
    UnknownDevice,
    UnknownMethod,
)
from icebus.schemas.measuring import BatchFinished

if TYPE_CHECKING:
    from tests.client.scripted_worker import ScriptedWorker


def test_given_two_boards_of_two_workers_when_evaluated_then_each_measures_each(
    alice: PulseCountClient, w1: ScriptedWorker, w2: ScriptedWorker, circuits: list[Path]
) -> None:
    with alice.reserve(2) as boards:
        results = list(boards.evaluate([str(path) for path in circuits]))
    expected = itertools.product(["d1", "d2"], [path.name for path in circuits])
    assert by_board_and_bitstream(results) == Counter(expected)
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
    assert (
        by_board_and_bitstream(results)
        == by_board_and_bitstream(told)
        == Counter(("d1", path.name) for path in circuits)
    )


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


def test_given_outcomes_when_the_user_has_not_taken_them_then_workers_keep_them(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    with alice.reserve(1, detached=True) as boards:
        run = boards.evaluate(circuits)
        first = next(run)
        w1.evaluations.wait(lambda seen: len(seen) == 3)
        second = next(run)
        run.close()
        taken = {first.evaluation, second.evaluation}
        w1.acknowledged.wait(lambda seen: taken <= set(seen))
        assert set(w1.acknowledged.seen) == taken
        boards.release()


def test_given_a_user_who_acknowledges_when_a_run_has_ended_then_workers_keep_the_rest(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    w1.twice = True
    with alice.reserve(1) as boards:
        first, *_ = boards.evaluate(circuits, acknowledge=False)
        boards.acknowledge(first)
        boards._acknowledger.flush()
        w1.acknowledged.wait(bool)
    assert w1.acknowledged.seen == [first.evaluation]


@pytest.mark.parametrize("progress", [False, lambda _: None])
def test_given_a_run_that_is_left_when_boards_have_more_of_it_then_that_is_withdrawn(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path], progress: Any
) -> None:
    w1.measure = False
    with alice.reserve(1) as boards:
        run = boards.evaluate(itertools.repeat(circuits[0]), progress=progress)
        with in_background(lambda: w1.result(*w1.evaluations.wait(lambda seen: len(seen) > 2)[0])):
            next(run)
        run.close()
        calls = w1.calls.wait(lambda seen: any(name == "withdraw" for name, _ in seen))
    batches = {call.args["batch"] for name, call in calls if name in ("evaluate", "withdraw")}
    assert len(batches) == 1
    names = [name for name, _ in calls if name in ("evaluate", "withdraw")]
    assert names[-1] == "withdraw"


def test_given_a_run_that_has_come_to_its_end_then_nothing_is_withdrawn(
    alice: PulseCountClient, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    with alice.reserve(1) as boards:
        assert len(list(boards.evaluate(circuits))) == 3
        assert boards.withdrawn is None
    assert all(name != "withdraw" for name, _ in w1.calls.seen)


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


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_given_a_hook_that_would_end_the_program_when_it_is_told_then_later_events_still_are(
    alice: PulseCountClient,
    w1: ScriptedWorker,
    circuits: list[Path],
    error: BaseException,
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[object] = []

    @alice.on("results")
    def note(result: PulseCountResult) -> None:
        told.append(result)
        raise error

    with alice.reserve(1) as boards:
        results = list(boards.evaluate(circuits))
    alice.close()
    assert told == results
    assert len([each for each in caplog.records if "hook failed" in each.message]) == len(results)


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
    assert by_board_and_bitstream(mixed) == {
        ("d1", circuits[0].name): 5,
        ("d1", circuits[1].name): 5,
    }
