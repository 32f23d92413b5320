"""One thread for descriptors, timers and an inbox."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from icebus.schemas.deadline import Deadline
from icebus.worker import loop as module
from icebus.worker.loop import READ, Loop, Timer

Eventually = Callable[..., object]


@pytest.fixture
def loop() -> Iterator[Loop]:
    running = Loop("test")
    running.start()
    yield running
    assert running.stop(Deadline.after(5))


def test_given_posts_from_many_threads_then_all_run_on_one_and_in_order(
    loop: Loop, eventually: Eventually
) -> None:
    ran: list[tuple[int, int]] = []
    threads: set[str] = set()

    def post_many(who: int) -> None:
        for number in range(500):
            loop.post(lambda number=number: ran.append((who, number)))  # type: ignore[misc]
        loop.post(lambda: threads.add(threading.current_thread().name))

    posters = [threading.Thread(target=post_many, args=(who,)) for who in range(4)]
    for poster in posters:
        poster.start()
    eventually(lambda: len(ran) == 2000 and threads)
    for who in range(4):
        assert [number for each, number in ran if each == who] == list(range(500))
    assert threads == {"test"}
    for poster in posters:
        poster.join(5)


def test_given_steps_that_raise_then_the_loop_goes_on(
    loop: Loop, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    done = threading.Event()

    def fail() -> None:
        raise ZeroDivisionError

    def arm() -> None:
        loop.call_later(0, fail)
        loop.call_later(0.01, done.set)

    loop.post(fail)
    loop.post(arm)
    assert done.wait(5)
    assert caplog.text.count("a step of the loop failed") == 2


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_given_a_step_that_ends_the_program_then_the_loop_goes_on(
    loop: Loop, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    done = threading.Event()

    def end() -> None:
        raise error

    loop.post(end)
    loop.post(done.set)
    assert done.wait(5)
    assert caplog.text.count("a step of the loop failed") == 1


def test_given_a_loop_that_can_not_go_on_then_that_is_told() -> None:
    told: list[str] = []
    crashing = Loop("test", told.append)
    crashing._selector.close()
    crashing.start()
    assert crashing.stop(Deadline.after(5))
    assert "test has ended" in told[0]


def test_given_timers_then_they_run_in_the_order_of_their_times_and_cancelled_ones_never(
    loop: Loop,
) -> None:
    ran: list[str] = []
    done = threading.Event()

    def arm() -> None:
        loop.call_later(0.03, lambda: ran.append("late"))
        loop.call_later(0.01, lambda: ran.append("early"))
        loop.call_later(0.02, lambda: ran.append("never")).cancel()
        loop.call_later(0.04, done.set)

    loop.post(arm)
    assert done.wait(5)
    assert ran == ["early", "late"]


def test_given_many_alarms_that_never_ring_then_they_are_not_kept(loop: Loop) -> None:
    done = threading.Event()

    def arm() -> None:
        for _ in range(10_000):
            loop.call_later(60, done.set).cancel()
        loop.call_later(0, done.set)

    loop.post(arm)
    assert done.wait(5)
    assert len(loop._timers) <= 2 * module.SWEEP_FROM


def test_given_a_timer_that_rang_then_it_lets_go_of_its_callback(loop: Loop) -> None:
    done = threading.Event()
    timers: list[Timer] = []
    loop.post(lambda: timers.append(loop.call_later(0, done.set)))
    assert done.wait(5)
    assert not timers[0].pending


def test_given_a_watched_descriptor_when_forgotten_then_nothing_is_called(loop: Loop) -> None:
    read, write = os.pipe()
    came: list[bytes] = []
    done = threading.Event()

    def take(_events: int) -> None:
        came.append(os.read(read, 10))
        loop.unwatch(read)
        loop.unwatch(read)  # twice does no harm
        os.write(write, b"b")
        loop.call_later(0.02, done.set)

    loop.post(lambda: loop.watch(read, READ, take))
    os.write(write, b"a")
    assert done.wait(5)
    assert came == [b"a"]
    os.close(read)
    os.close(write)


def test_given_a_loop_that_has_ended_then_a_post_touches_nobody_elses_file() -> None:
    ended = Loop("ended")
    ended.start()
    assert ended.stop(Deadline.after(5))
    read, write = os.pipe()  # as likely as not under the numbers the loop has let go
    os.set_blocking(read, False)
    for _ in range(3):
        ended.post(lambda: None)
        assert ended.stop(Deadline.after(0))
    with pytest.raises(BlockingIOError):
        os.read(read, 1)
    os.close(read)
    os.close(write)


def test_given_many_loops_that_ended_then_no_descriptor_is_left() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(100):
        loop = Loop("short")
        loop.start()
        assert loop.stop(Deadline.after(5))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_given_a_stop_from_the_loop_itself_then_it_does_not_wait_for_itself() -> None:
    loop = Loop("suicidal")
    stopped: list[bool] = []
    loop.start()
    loop.post(lambda: stopped.append(loop.stop(Deadline.after(5))))
    loop._thread.join(5)
    assert stopped == [True]
