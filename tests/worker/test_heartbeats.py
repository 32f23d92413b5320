"""A worker answers heartbeats for as long as its devices' loop turns."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.worker.peers import Peers
from tests.worker.waiting import TIMEOUT

from icebus.broker.embedded import EmbeddedBroker
from icebus.schemas.components import Heartbeat
from icebus.schemas.deadline import Deadline
from icebus.schemas.topics import CONTROL_HEARTBEAT
from icebus.worker import heartbeats as module
from icebus.worker.heartbeats import Heartbeats
from icebus.worker.loop import Loop

Eventually = Callable[..., object]


class Answering:
    """Heartbeats that are answered on a loop, which a test can hold up."""

    def __init__(self) -> None:
        self.loop = Loop("devices")
        self.answered: list[int] = []
        self.stuck: list[str] = []
        self.held = threading.Event()
        self.go_on = threading.Event()
        self._heartbeats = Heartbeats(
            self.loop, lambda beat: self.answered.append(beat.sequence), self.stuck.append
        )

    def take(self, sequence: int) -> None:
        self._heartbeats.take(Heartbeat(epoch="e", sequence=sequence, interval=1.0))

    def hold_up(self) -> None:
        """Have the loop stand in the middle of a step."""

        def stand() -> None:
            self.held.set()
            self.go_on.wait()

        self.loop.post(stand)
        assert self.held.wait(5)


@pytest.fixture
def answering() -> Iterator[Answering]:
    made = Answering()
    made.loop.start()
    yield made
    made.go_on.set()
    assert made.loop.stop(Deadline.after(5))


def test_given_a_loop_that_turns_then_each_heartbeat_is_answered(
    answering: Answering, eventually: Eventually
) -> None:
    for sequence in (1, 2):
        answering.take(sequence)
        eventually(lambda sequence=sequence: sequence in answering.answered)


def test_given_a_loop_that_stands_then_none_is_answered_until_it_turns_and_then_the_latest(
    answering: Answering, eventually: Eventually
) -> None:
    answering.hold_up()
    for sequence in (1, 2, 3):
        answering.take(sequence)
    assert answering.answered == []
    assert answering.stuck == []
    answering.go_on.set()
    eventually(lambda: answering.answered)
    answering.take(4)
    eventually(lambda: answering.answered == [3, 4])


def test_given_a_loop_that_stands_for_long_then_that_is_told(
    answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STUCK_AFTER", 0.0)
    answering.hold_up()
    answering.take(1)
    assert answering.stuck == []
    answering.take(2)
    assert "has not turned" in answering.stuck[0]


def test_given_a_process_that_was_stopped_for_an_hour_then_its_loop_is_not_taken_for_stuck(
    answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering.hold_up()
    answering.take(1)
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600)
    monkeypatch.setattr(module, "time", later)
    answering.take(2)
    assert answering.stuck == []


WORKER_WITH_A_BAD_LOOP = """
import time
from icebus.worker import cli, heartbeats, loop
heartbeats.STUCK_AFTER = 0.2
def turn(self):
    {step}
loop.Loop._turn = turn
cli.main()
"""


@pytest.mark.parametrize(
    ("step", "told"),
    [("raise OSError('no more memory')", "no more memory"), ("time.sleep(60)", "has not turned")],
)
def test_given_a_worker_whose_loop_does_not_go_on_then_its_process_ends_with_an_error(
    broker: EmbeddedBroker, peers: Peers, tmp_path: Path, step: str, told: str
) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", WORKER_WITH_A_BAD_LOOP.format(step=step)),
            *("--rack", str(tmp_path), "--directory", str(tmp_path / "journals")),
        ],
        env={**os.environ, "ICEBUS_BROKER": broker.address("w1").url()},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = Deadline.after(TIMEOUT)
    sequence = 0
    while process.poll() is None:
        deadline.check("the end of the worker")
        sequence += 1
        beat = Heartbeat(epoch="e", sequence=sequence, interval=0.05)
        peers.control.publish(CONTROL_HEARTBEAT(), beat, interval=beat.interval).result(TIMEOUT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(beat.interval)
    _, log = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert told in log.splitlines()[-1]
