"""The client for asyncio: the same as the sync one, cancellable, and it blocks nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import icebus.client
from icebus.broker.embedded import EmbeddedBroker
from icebus.client import (
    AsyncAdmin,
    AsyncBoards,
    AsyncClient,
    AsyncGenericMeasuringClient,
    AsyncMeasuringBoards,
    AsyncMeasuringClient,
    AsyncPulseCountClient,
    AsyncReservation,
    AsyncVarianceClient,
    EvaluationsFailed,
    Progress,
    PulseCountClient,
    PulseCountHandler,
    PulseCountResult,
    Waiting,
)
from icebus.client._reservation.reservation import Reservation
from icebus.client._session import CLOSE_TIMEOUT
from icebus.schemas.errors import (
    BrokerUnavailable,
    ClientClosed,
    InvalidRequest,
    MeasurementFailed,
    NotEnoughDevices,
)
from icebus.schemas.message import now
from icebus.schemas.operations.reservations import Queue

if TYPE_CHECKING:
    from tests.client.scripted_control import ScriptedControl
    from tests.client.scripted_worker import ScriptedWorker

SOON = 10.0

OWN = {"connect", "twin", "start", "id", "withdrawn", "boards", "result"}
"""Names that one of them alone has, and those of attributes, which the other has too."""


@pytest.fixture
def url(broker: EmbeddedBroker, control: ScriptedControl) -> str:
    return broker.address("alice").url()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine; nothing may be left behind of it."""
    before = threading.active_count()
    asyncio.run(asyncio.wait_for(main(), 30))
    gc.collect()
    until = time.monotonic() + SOON
    while threading.active_count() > before:
        assert time.monotonic() < until, threading.enumerate()
        time.sleep(0.01)


async def seen(observed: Any, condition: Callable[[list[Any]], bool]) -> list[Any]:
    found: list[Any] = await asyncio.to_thread(observed.wait, condition)
    return found


def public(cls: type) -> set[str]:
    names = {name for name in dir(cls) if not name.startswith("_")}
    return {name for name in names if not name.startswith("on_")}


# --- twins ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sync", "twin"),
    [
        (icebus.client.Client, AsyncClient),
        (icebus.client.Admin, AsyncAdmin),
        (icebus.client.MeasuringClient, AsyncMeasuringClient),
        (icebus.client.GenericMeasuringClient, AsyncGenericMeasuringClient),
        (PulseCountClient, AsyncPulseCountClient),
        (icebus.client.VarianceClient, AsyncVarianceClient),
        (icebus.client.Reservation, AsyncReservation),
        (icebus.client.MeasuringBoards, AsyncMeasuringBoards),
        (icebus.client.Boards, AsyncBoards),
    ],
)
def test_given_a_class_and_its_twin_then_names_and_signatures_are_the_same(
    sync: Any, twin: Any
) -> None:
    assert public(sync) - OWN == public(twin) - OWN
    for name in public(sync) - OWN:
        one, other = getattr(sync, name), getattr(twin, name)
        if not inspect.isfunction(one):
            assert not inspect.isfunction(other), name
            continue
        mine, theirs = inspect.signature(one), inspect.signature(other)
        assert [p.replace(annotation=None) for p in mine.parameters.values()] == [
            p.replace(annotation=None) for p in theirs.parameters.values()
        ], name
        assert other.__doc__, name
    if not issubclass(sync, Reservation):
        assert inspect.signature(sync) == inspect.signature(twin)


def test_given_the_public_names_then_each_client_and_handler_has_a_twin() -> None:
    names = {*icebus.client.__all__}
    twins = {name for name in names if name.endswith(("Client", "Boards", "Handler", "Admin"))}
    twins |= {"Reservation"}
    plain = {name for name in twins if not name.startswith("Async")}
    assert {f"Async{name}" for name in plain} <= names


# --- use --------------------------------------------------------------------------------------


def test_given_what_was_not_awaited_when_it_is_used_then_the_error_says_how(
    url: str, w1: ScriptedWorker, circuits: list[Path], control: ScriptedControl
) -> None:
    async def main() -> None:
        async with AsyncPulseCountClient(url) as client:
            opening: Any = client.reserve(1)
            assert "await client.reserve(" in repr(opening)
            with pytest.raises(AttributeError, match=r"no 'map' yet: .*await client\.reserve"):
                opening.map(circuits)
            async with opening as boards:
                for wrong in (lambda: list(boards.map(circuits)), lambda: aiter_of(boards)):
                    with pytest.raises(InvalidRequest, match="`async for`"):
                        wrong()
                with pytest.raises(InvalidRequest, match="`async for`"):
                    await boards.map(circuits)

    def aiter_of(boards: Any) -> None:
        for _ in boards.evaluate(circuits):
            pass

    run(main)


def test_given_boards_when_evaluating_then_results_come_one_by_one(
    url: str, w1: ScriptedWorker, circuits: list[Path], control: ScriptedControl
) -> None:
    async def main() -> None:
        async with AsyncPulseCountClient(url) as client, client.reserve(1) as boards:
            assert (client.user, boards.kind, boards.serials) == ("alice", "pulsecount", ["d1"])
            results = [result async for result in boards.evaluate(circuits)]
            assert [type(each) for each in results] == [PulseCountResult] * len(circuits)
            assert [each.source for each in results] == circuits
            before = boards.document.until
            await boards.extend(600)
            assert boards.document.until - before == timedelta(seconds=600)
            assert boards.serves("d1")
        assert boards.ended is not None
        with pytest.raises(ClientClosed):
            await client.devices()

    run(main)
    assert not control.reservations


def test_given_a_client_of_any_kind_when_it_calls_then_it_is_answered(
    url: str, w1: ScriptedWorker
) -> None:
    async def main() -> None:
        async with AsyncClient(url) as client:
            held = await client.reserve(1, kind="pulsecount")
            answer = await client.call(held, None, "status")
            assert answer.results == {"d1": "status"}
            again = await client.attach(held.id)
            assert again.serials == ["d1"]
            await again.close()
            await held.release()

    run(main)


def test_given_evaluations_that_fail_then_the_same_error_tells_of_them(
    url: str, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    w1.refuse = [MeasurementFailed("no")] * 10

    async def main() -> None:
        async with AsyncPulseCountClient(url) as client, client.reserve(1) as boards:
            with pytest.raises(EvaluationsFailed) as told:
                async for _ in boards.evaluate(circuits):
                    pass
            assert len(told.value.failures) == len(circuits)
            outcomes = [each async for each in boards.evaluate_outcomes(circuits)]
            assert len(outcomes) == len(circuits)
            with pytest.raises(InvalidRequest, match="repeats"):
                boards.map(circuits, repeats=0)

    run(main)


def test_given_a_client_that_is_not_connected_then_it_says_so_or_connects(url: str) -> None:
    async def main() -> None:
        client = AsyncPulseCountClient(url)
        assert "not connected yet" in repr(client)
        with pytest.raises(InvalidRequest, match="connect"):
            _ = client.user
        assert await client.devices() == []
        assert repr(client).startswith("<AsyncPulseCountClient alice at farm ")
        await client.close()
        await client.close()

    run(main)


def test_given_refusals_then_they_are_those_of_the_sync_client(
    url: str, control: ScriptedControl
) -> None:
    control.refuse = [NotEnoughDevices("none")]

    async def main() -> None:
        async with AsyncPulseCountClient(url) as client:
            with pytest.raises(NotEnoughDevices):
                await client.reserve(1)
            with pytest.raises(InvalidRequest, match="no event"):
                client.on("nonsense")
        with pytest.raises(BrokerUnavailable):
            async with AsyncPulseCountClient("mqtt://nobody:x@127.0.0.1:1", timeout=0.2):
                pass

    run(main)


# --- the loop ---------------------------------------------------------------------------------


def test_given_a_run_then_the_loop_is_not_held_up(
    url: str, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    """Waiting for anything, reading a slow source included, is done on threads."""

    def slow() -> Any:
        for circuit in circuits:
            time.sleep(0.2)
            yield circuit

    async def main() -> None:
        lags: list[float] = []

        async def measure() -> None:
            while True:
                began = time.monotonic()
                await asyncio.sleep(0.005)
                lags.append(time.monotonic() - began)

        measuring = asyncio.create_task(measure())
        async with AsyncPulseCountClient(url) as client, client.reserve(1) as boards:
            assert len([each async for each in boards.evaluate(slow())]) == len(circuits)
        measuring.cancel()
        # What holds the loop up once would cost one of them 200 ms or more.
        assert sorted(lags)[len(lags) * 9 // 10] < 0.1
        assert len(lags) > 20

    run(main)


def test_given_results_that_nobody_reads_then_no_more_is_sent_than_boards_take(
    url: str, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    async def main() -> None:
        taken = itertools.count()

        def endless() -> Any:
            for _ in taken:
                yield circuits[0]

        async with AsyncPulseCountClient(url) as client, client.reserve(1) as boards:
            results = boards.evaluate(endless())
            await anext(results)
            await client.devices()
            before = next(taken)
            for _ in range(20):
                await client.devices()
            assert next(taken) == before + 1
            await results.aclose()

    run(main)


def test_given_two_tasks_that_read_one_run_then_the_second_is_told(
    url: str, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    w1.measure = False

    async def main() -> None:
        async with AsyncPulseCountClient(url) as client, client.reserve(1) as boards:
            results = boards.evaluate(circuits)
            first = asyncio.create_task(anext(results))
            await seen(w1.evaluations, lambda found: len(found) > 0)
            with pytest.raises(RuntimeError, match="another task"):
                await anext(results)
            await results.aclose()
            with pytest.raises(ClientClosed):
                await first
            assert [each async for each in results] == []

    run(main)


# --- cancelling -------------------------------------------------------------------------------


def withdrawn(worker: ScriptedWorker) -> bool:
    return any(method == "withdraw" for method, _ in worker.calls.seen)


def test_given_a_run_that_times_out_then_what_waits_is_withdrawn_and_the_boards_are_released(
    url: str, w1: ScriptedWorker, control: ScriptedControl, circuits: list[Path]
) -> None:
    w1.measure = False

    async def hang(client: AsyncPulseCountClient) -> None:
        async with asyncio.timeout(0.5), client.reserve(1) as boards:
            async for _ in boards.evaluate(itertools.repeat(circuits[0])):
                pass

    async def main() -> None:
        async with AsyncPulseCountClient(url) as client:
            with pytest.raises(TimeoutError):
                await hang(client)
            assert withdrawn(w1)
            assert not control.reservations

    run(main)


def test_given_a_loop_that_is_left_or_cancelled_in_its_body_then_the_run_ends(
    url: str, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    async def main() -> None:
        async with AsyncPulseCountClient(url) as client, client.reserve(1) as boards:
            async for _ in boards.evaluate(itertools.repeat(circuits[0])):
                w1.measure = False
                break
            await seen(w1.calls, lambda _: withdrawn(w1))
            w1.calls.seen.clear()
            w1.measure = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    async for _ in boards.evaluate(itertools.repeat(circuits[0])):
                        w1.measure = False
                        await asyncio.sleep(60)
            await seen(w1.calls, lambda _: withdrawn(w1))
            assert boards.ended is None

    run(main)


def test_given_a_place_in_the_queue_when_cancelled_then_it_is_given_up_at_once(
    url: str, control: ScriptedControl
) -> None:
    control.queue = Queue(position=2, reason="d1 is held by ben", estimate=now())

    async def main() -> None:
        async with AsyncPulseCountClient(url) as client:
            waiting: asyncio.Queue[Waiting] = asyncio.Queue()
            client.on("queued")(waiting.put_nowait)
            task = asyncio.ensure_future(client.reserve(1, wait=3600))
            assert (await waiting.get()).position == 2
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not control.reservations

    run(main)


def test_given_boards_that_come_although_it_was_cancelled_then_they_are_given_back(
    url: str, control: ScriptedControl
) -> None:
    came, go = threading.Event(), threading.Event()

    def hold_up(operation: str) -> None:
        if operation == "reserve":
            came.set()
            go.wait(SOON)

    control.before = hold_up

    async def main() -> None:
        async with AsyncPulseCountClient(url) as client:
            task = asyncio.ensure_future(client.reserve(1))
            await asyncio.to_thread(came.wait, SOON)
            task.cancel()
            asyncio.get_running_loop().call_later(0.05, go.set)
            with pytest.raises(asyncio.CancelledError):
                await task
            await seen(
                control.requests,
                lambda found: any(name in ("withdraw", "end") for name, _ in found),
            )
            assert not control.reservations

    run(main)


def test_given_a_client_that_is_closed_while_tasks_wait_then_they_are_told(
    url: str, w1: ScriptedWorker, control: ScriptedControl, circuits: list[Path]
) -> None:
    w1.measure = False
    control.queue = None

    async def main() -> None:
        client = await AsyncPulseCountClient(url).connect()
        boards = await client.reserve(1)
        results = boards.evaluate(circuits)
        task = asyncio.create_task(anext(results))
        await seen(w1.evaluations, lambda found: len(found) > 0)
        await client.close()
        with pytest.raises(ClientClosed):
            await task
        assert not control.reservations

    run(main)


# --- events -----------------------------------------------------------------------------------


def test_given_hooks_then_they_run_on_the_loop_one_after_the_other_plain_or_not(
    url: str, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    async def main() -> None:
        loop_s = threading.get_ident()
        told: list[str] = []
        running = 0

        class Handler(PulseCountHandler):
            async def results(self, result: PulseCountResult) -> None:
                nonlocal running
                running += 1
                assert running == 1
                await asyncio.sleep(0)
                running -= 1
                assert threading.get_ident() == loop_s
                told.append(result.bitstream)

        finished = asyncio.Event()
        client = AsyncPulseCountClient(url, handlers=[Handler()])

        @client.on("finished")
        def end(_: object) -> None:
            assert threading.get_ident() == loop_s
            finished.set()

        async with client, client.reserve(1) as boards:
            async for _ in boards.evaluate(circuits):
                pass
            await finished.wait()
        assert told == [circuit.name for circuit in circuits]

    run(main)


def test_given_a_hook_that_closes_its_client_then_it_does_not_wait_for_itself(
    url: str, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    async def read(results: AsyncIterator[object]) -> None:
        async for _ in results:
            await asyncio.sleep(0)

    async def main() -> None:
        closed = asyncio.Event()
        client = AsyncPulseCountClient(url)

        @client.on("results")
        async def close(_: object) -> None:
            await client.close()
            closed.set()

        boards = await client.reserve(1)
        began = time.monotonic()
        results = boards.evaluate(itertools.repeat(circuits[0]))
        with pytest.raises(ClientClosed):
            await read(results)
        await closed.wait()
        assert time.monotonic() - began < CLOSE_TIMEOUT

    run(main)


def test_given_an_async_source_then_it_is_said_what_to_give(
    url: str, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    async def source() -> AsyncIterator[Path]:
        yield circuits[0]

    async def main() -> None:
        async with AsyncPulseCountClient(url) as client, client.reserve(1) as boards:
            given: Any = source()
            with pytest.raises(InvalidRequest, match="a plain one"):
                boards.map(given)

    run(main)


def test_given_a_function_for_progress_then_it_is_called_on_the_loop(
    url: str, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    async def main() -> None:
        loop_s = threading.get_ident()
        told: list[tuple[int, int]] = []

        def show(progress: Progress) -> None:
            told.append((progress.done, threading.get_ident()))

        async with AsyncPulseCountClient(url) as client, client.reserve(1) as boards:
            async for _ in boards.map(circuits, progress=show):
                pass
        assert told == [(number, loop_s) for number in range(1, len(circuits) + 1)]

    run(main)


def test_given_a_coroutine_for_a_hook_of_the_sync_client_then_it_is_refused(
    alice: PulseCountClient,
) -> None:
    async def show(_: object) -> None: ...

    class Handler(PulseCountHandler):
        async def results(self, result: PulseCountResult) -> None: ...

    with pytest.raises(InvalidRequest, match="AsyncPulseCountClient"):
        alice.on("results")(show)
    with pytest.raises(InvalidRequest, match="AsyncPulseCountClient"):
        alice.register(Handler())


# --- kinds of others --------------------------------------------------------------------------


class RateBoards(icebus.client.MeasuringBoards[PulseCountResult]):
    def twice(self, number: int) -> int:
        """Of a kind's own."""
        return number * 2


class RateClient(icebus.client.MeasuringClient[PulseCountResult, RateBoards]):
    kind = "pulsecount"
    result = PulseCountResult
    boards = RateBoards


class AsyncRateBoards(AsyncMeasuringBoards[PulseCountResult]):
    twice = icebus.client.awaited(RateBoards.twice)


class AsyncRateClient(AsyncMeasuringClient[PulseCountResult, AsyncRateBoards]):
    twin = RateClient
    boards = AsyncRateBoards


def test_given_a_kind_of_others_then_its_async_client_is_its_twin(
    url: str, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    async def main() -> None:
        async with AsyncRateClient(url) as client, client.reserve(1) as boards:
            assert client.result is PulseCountResult
            assert await boards.twice(4) == 8
            async for result in boards.map(circuits):
                assert result.pulses == 1000

        async with (
            AsyncGenericMeasuringClient("pulsecount", url) as generic,
            generic.reserve(1) as others,
        ):
            results: AsyncIterator[Any] = others.map(circuits)
            assert {each.pulses async for each in results} == {1000}

    run(main)
