"""Waiting for a farm of which nothing is heard: told within seconds, and when it is back."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.client.observed import SOON

from icebus.bus import Bus
from icebus.client import PulseCountClient
from icebus.client._connection import farm_watch
from icebus.schemas.components import Heartbeat
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BrokerUnavailable, IcebusError
from icebus.schemas.message import now
from icebus.schemas.operations.reservations import Queue
from icebus.schemas.topics import CONTROL_HEARTBEAT

if TYPE_CHECKING:
    from tests.client.scripted_control import ScriptedControl
    from tests.client.scripted_worker import ScriptedWorker

    from icebus.broker.embedded import EmbeddedBroker

INTERVAL = 0.05

Told = queue.SimpleQueue[tuple[str, object]]


class Pulse:
    """Publishes heartbeats until it is stopped."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        sequence = 0
        while not self._stop.wait(INTERVAL):
            sequence += 1
            beat = Heartbeat(epoch="e", sequence=sequence, interval=INTERVAL)
            self._bus.publish(CONTROL_HEARTBEAT(), beat, interval=INTERVAL)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(SOON)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("UNHEARD", 0.05), ("SILENCE", 0.5), ("TICK", 0.05)):
        monkeypatch.setattr(farm_watch, name, seconds)


@pytest.fixture
def pulse(control: ScriptedControl) -> Iterator[Pulse]:
    made = Pulse(control.bus)
    yield made
    made.stop()


def listen(client: PulseCountClient) -> Told:
    told: Told = queue.SimpleQueue()
    client.on("away")(lambda problem: told.put(("away", problem)))
    client.on("back")(lambda since: told.put(("back", since)))
    return told


def test_given_control_that_falls_silent_when_somebody_listens_then_it_is_told_and_its_return(
    alice: PulseCountClient, control: ScriptedControl, pulse: Pulse
) -> None:
    told = listen(alice)
    pulse.stop()

    event, problem = told.get(timeout=SOON)
    assert event == "away"
    assert isinstance(problem, BrokerUnavailable)
    assert "control since" in problem.message
    assert "doctor" in problem.message

    again = Pulse(control.bus)
    event, since = told.get(timeout=SOON)
    again.stop()
    assert event == "back"
    assert isinstance(since, datetime)
    assert since <= now()


def test_given_a_farm_that_stays_away_then_that_is_told_again_and_again(
    alice: PulseCountClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farm_watch, "REPEATED", 0.2)
    told = listen(alice)

    assert [told.get(timeout=SOON)[0] for _ in range(3)] == ["away"] * 3


def test_given_a_broker_that_is_restarted_when_waited_for_then_both_are_told(
    broker: EmbeddedBroker, alice: PulseCountClient, pulse: Pulse
) -> None:
    told = listen(alice)
    farm_watch_listens(alice)
    broker.stop(Deadline.after(SOON))

    event, problem = told.get(timeout=SOON)
    assert event == "away"
    assert isinstance(problem, IcebusError)
    broker.start(Deadline.after(SOON))
    while event != "back":
        event, _ = told.get(timeout=SOON)


def farm_watch_listens(client: PulseCountClient) -> None:
    """Wait until the watch has begun: the loss of a connection counts from then on."""
    begun = threading.Event()
    client._connection.bus.call_later(2 * farm_watch.UNHEARD, begun.set)
    assert begun.wait(SOON)


def test_given_nobody_who_listens_when_control_falls_silent_under_a_wait_then_the_log_says_so(
    alice: PulseCountClient, control: ScriptedControl, caplog: pytest.LogCaptureFixture
) -> None:
    control.queue = Queue(position=1, reason="all are held")
    logged = threading.Event()

    class Watching(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "nothing has been heard of control" in record.getMessage():
                logged.set()

    log = logging.getLogger("icebus")
    handler = Watching()
    log.addHandler(handler)
    waiting = threading.Thread(target=lambda: alice.reserve(1, wait=60).close())
    waiting.start()
    assert logged.wait(SOON)
    log.removeHandler(handler)
    [reservation] = control.reservations
    control.give(reservation, "d1")
    waiting.join(SOON)
    assert not waiting.is_alive()


def test_given_a_wait_that_is_over_then_nothing_is_listened_to(
    alice: PulseCountClient, control: ScriptedControl, w1: ScriptedWorker, circuits: list[Path]
) -> None:
    watch = alice._connection.farm_watch
    with alice.reserve(1) as boards:
        list(boards.evaluate(circuits))
    looked = threading.Event()
    told: list[object] = []

    def look() -> None:
        told.extend((watch._waits, watch._subscription))
        looked.set()

    alice._connection.bus.call_soon(look)
    assert looked.wait(SOON)
    assert told == [0, None]
