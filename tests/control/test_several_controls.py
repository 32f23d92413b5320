"""Several controls on one database, as processes that are killed while clients keep them busy."""

from __future__ import annotations

import logging
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlmodel import col, select
from tests.control.fakes import TIMEOUT, FakeClient, FakeWorker, until

from icebus.broker.access import Principal
from icebus.broker.embedded import EmbeddedBroker
from icebus.bus import Bus, Incoming
from icebus.bus._broker_address.address import BrokerAddress
from icebus.control.decide.lifecycle import LIVE_HOLDS
from icebus.control.store.database import Database
from icebus.control.store.outbox import OutboxRow
from icebus.control.store.tables import DeviceRow, HoldRow, ReservationRow
from icebus.schemas.components import ControlState, Heartbeat, Presence
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import Desired
from icebus.schemas.errors import (
    DeviceUnavailable,
    InternalError,
    NotEnoughDevices,
    ReservationEnded,
    UnknownKind,
)
from icebus.schemas.ids import new_id
from icebus.schemas.message import decode
from icebus.schemas.operations.reservations import ReservationReply
from icebus.schemas.topics import CONTROL_HEARTBEAT, CONTROL_STATE, DESIRED, RESERVATION, Role

log = logging.getLogger(__name__)

FULL = bool(os.environ.get("ICEBUS_STRESS"))
"""With ICEBUS_STRESS=1 it is as large as a lab; without, small enough for every run of tests."""

SEED = int(os.environ.get("ICEBUS_STRESS_SEED", "1"))
CONTROLS = ["c1", "c2", "c3"]
CLIENTS, KILLS = (50, 20) if FULL else (8, 2)
BETWEEN_KILLS = 8 * CLIENTS if FULL else 12
"""Requests that are answered between two kills."""

HEARTBEAT = 1.0
DEADLINE = 60.0
SERIALS = [f"d{number:02}" for number in range(16 if FULL else 6)]

PEOPLE = [
    *(Principal(id=name, role=Role.CONTROL) for name in CONTROLS),
    Principal(id="w1", role=Role.WORKER),
    Principal(id="w2", role=Role.WORKER),
    Principal(id="alice", role=Role.USER),
    Principal(id="root", role=Role.ADMIN),
]


class RecordingWorker(FakeWorker):
    """Notes what was ever desired of its devices."""

    def __init__(self, address: BrokerAddress, serials: list[str]) -> None:
        self.told: dict[tuple[str, int], set[str | None]] = {}
        super().__init__(address, serials)

    def _on_desired(self, incoming: Incoming) -> None:
        if incoming.payload:
            desired = decode(Desired, incoming.payload)
            told = self.told.setdefault((desired.serial, desired.generation), set())
            told.add(desired.reservation)
        super()._on_desired(incoming)


class Watcher:
    """What everybody may see of the controls, and what the broker keeps."""

    def __init__(self, address: BrokerAddress) -> None:
        self.changed = threading.Condition()
        self.states: dict[str, ControlState] = {}
        self.beats: queue.SimpleQueue[tuple[float, str]] = queue.SimpleQueue()
        self.kept: dict[str, bytes] = {}
        self.bus = Bus(address, "watcher")
        for topic, handler in (
            (CONTROL_STATE, self._on_state),
            (CONTROL_HEARTBEAT, self._on_beat),
            (DESIRED, self._on_kept),
            (RESERVATION, self._on_kept),
        ):
            self.bus.subscribe(topic, handler)
        self.bus.connect(Deadline.after(TIMEOUT))

    def leader(self, of: int = len(CONTROLS)) -> str:
        """The one control that says it leads, once so many are there."""
        deadline = Deadline.after(DEADLINE)
        with self.changed:
            while True:
                there = {n: s for n, s in self.states.items() if s.state is Presence.ONLINE}
                leading = [name for name, state in there.items() if state.leading]
                if len(there) >= of and len(leading) == 1:
                    return leading[0]
                assert self.changed.wait(deadline.remaining), f"no leader: {self.states}"

    def next_beat(self, *, after: float, of_another_than: str) -> float:
        """When, after a moment, the first heartbeat of another run of a control came."""
        while True:
            at, epoch = self.beats.get(timeout=DEADLINE)
            if at > after and epoch != of_another_than:
                return at

    def _on_state(self, incoming: Incoming) -> None:
        with self.changed:
            self.states[incoming.ids["control"]] = decode(ControlState, incoming.payload)
            self.changed.notify_all()

    def _on_beat(self, incoming: Incoming) -> None:
        if incoming.payload and not incoming.retained:
            self.beats.put((time.monotonic(), decode(Heartbeat, incoming.payload).epoch))

    def _on_kept(self, incoming: Incoming) -> None:
        with self.changed:
            if incoming.payload:
                self.kept[incoming.topic] = incoming.payload
            else:
                self.kept.pop(incoming.topic, None)
            self.changed.notify_all()


class Controls:
    """Processes of control."""

    def __init__(self, broker: EmbeddedBroker, database_url: str) -> None:
        self._broker = broker
        self._database_url = database_url
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        environment = {
            **os.environ,
            "ICEBUS_BROKER": self._broker.address(name).url(),
            "ICEBUS_DATABASE": self._database_url,
        }
        options = ["--heartbeat", str(HEARTBEAT), "--grace", "5", "--log-level", "error"]
        self._processes[name] = subprocess.Popen(
            [sys.executable, "-m", "icebus.control.cli", *options], env=environment
        )

    def kill(self, name: str) -> None:
        self._processes[name].kill()
        self._processes[name].wait()

    def stop(self, name: str) -> None:
        self._processes[name].send_signal(signal.SIGTERM)
        assert self._processes[name].wait(timeout=TIMEOUT) == 0

    def close(self) -> None:
        for name in self._processes:
            self.kill(name)


class RequestingClient:
    """A client that reserves, extends and releases until it is told to stop.

    It asks again under the same id for as long as it takes, as the library does.
    """

    def __init__(self, address: BrokerAddress, seed: int, answered: queue.SimpleQueue[str]) -> None:
        self._random = random.Random(seed)
        self._answered = answered
        self._client = FakeClient(address).start()
        self.made: list[str] = []
        self.outcomes: Counter[str] = Counter()

    def work(self, done: threading.Event) -> None:
        while not done.is_set():
            attached = self._client.id if self._random.random() < 0.5 else None
            count = self._random.randint(1, 3)
            made = self._ask("reserve", kind="pulsecount", count=count, client=attached)
            if made is None:
                continue
            self.made.append(made)
            if self._random.random() < 0.5:
                self._ask("extend", reservation=made, duration=60)
            self._ask("end", reservation=made)

    def close(self) -> None:
        self._client.stop()

    def _ask(self, operation: str, **args: object) -> str | None:
        name, deadline = new_id(), Deadline.after(DEADLINE)
        while True:
            try:
                reply = self._client.ask(operation, ReservationReply, name, **args)
            except (NotEnoughDevices, DeviceUnavailable, UnknownKind, ReservationEnded) as refusal:
                self._note(refusal.code)
                return None
            except InternalError as failure:
                # The database had no time for it; nothing was done.
                self._note(failure.code)
                deadline.check(operation)
            else:
                self._note(operation)
                return reply.reservation.id

    def _note(self, outcome: str) -> None:
        self.outcomes[outcome] += 1
        self._answered.put(outcome)


@pytest.fixture
def crowd(tmp_path: Path, broker_class: type[EmbeddedBroker]) -> Iterator[EmbeddedBroker]:
    """A broker that knows three controls."""
    embedded = broker_class(tmp_path / "broker", PEOPLE)
    embedded.start(Deadline.after(TIMEOUT))
    yield embedded
    embedded.stop(Deadline.after(5))


@pytest.fixture
def controls(crowd: EmbeddedBroker, empty_database_url: str) -> Iterator[Controls]:
    """Started all at once, on a database without tables."""
    running = Controls(crowd, empty_database_url)
    for name in CONTROLS:
        running.start(name)
    yield running
    running.close()


@pytest.fixture
def watcher(crowd: EmbeddedBroker) -> Iterator[Watcher]:
    watching = Watcher(crowd.address("root"))
    yield watching
    watching.bus.close(Deadline.after(5))


@pytest.fixture
def workers(crowd: EmbeddedBroker) -> Iterator[list[RecordingWorker]]:
    half = len(SERIALS) // 2
    running = [
        RecordingWorker(crowd.address("w1"), SERIALS[:half]),
        RecordingWorker(crowd.address("w2"), SERIALS[half:]),
    ]
    for worker in running:
        worker.start()
    yield running
    for worker in running:
        worker.stop()


@pytest.fixture
def requesting(crowd: EmbeddedBroker) -> Iterator[list[RequestingClient]]:
    answered: queue.SimpleQueue[str] = queue.SimpleQueue()
    address = crowd.address("alice")
    coming = [
        RequestingClient(address, SEED * 1000 + number, answered) for number in range(CLIENTS)
    ]
    yield coming
    for each in coming:
        each.close()


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"] if FULL else ["postgresql"])
@pytest.mark.timeout(1200 if FULL else 300)
def test_given_three_controls_that_are_killed_at_random_then_nothing_is_given_twice_or_lost(
    crowd: EmbeddedBroker,
    controls: Controls,
    watcher: Watcher,
    workers: list[RecordingWorker],
    requesting: list[RequestingClient],
    empty_database_url: str,
) -> None:
    chance = random.Random(SEED)
    answered = requesting[0]._answered
    watcher.beats.get(timeout=DEADLINE)
    observer = FakeClient(crowd.address("alice")).start()
    observer.wait_available(len(SERIALS))
    done = threading.Event()
    takeovers: list[float] = []
    with ThreadPoolExecutor(CLIENTS) as pool:
        busy = [pool.submit(each.work, done) for each in requesting]
        try:
            for _ in range(KILLS):
                leader = watcher.leader()
                for _ in range(BETWEEN_KILLS):
                    answered.get(timeout=DEADLINE)
                victim = leader if chance.random() < 0.6 else chance.choice(CONTROLS)
                epoch = watcher.states[leader].session
                killed_at = time.monotonic()
                controls.kill(victim)
                if victim == leader:
                    takeovers.append(
                        watcher.next_beat(after=killed_at, of_another_than=epoch) - killed_at
                    )
                controls.start(victim)
        finally:
            done.set()
        for each in busy:
            each.result(timeout=DEADLINE)

    observer.wait_available(len(SERIALS))
    observer.stop()
    until(
        lambda: not any(RESERVATION.parse(topic) for topic in watcher.kept),
        watcher.changed,
        "documents to be cleared",
    )
    outcomes = sum((each.outcomes for each in requesting), Counter[str]())
    log.info("answers: %s; takeovers after %s s", dict(outcomes), takeovers)
    told = {key: each for worker in workers for key, each in worker.told.items()}
    assert [key for key, reservations in told.items() if len(reservations) > 1] == []
    database = Database(empty_database_url)
    with database.transaction() as session:
        assert session.exec(select(HoldRow).where(col(HoldRow.state).in_(LIVE_HOLDS))).all() == []
        made = Counter(name for each in requesting for name in each.made)
        assert made == Counter(session.exec(select(ReservationRow.id)))
        assert session.exec(select(OutboxRow)).all() == []
        generations = {d.serial: d.generation for d in session.exec(select(DeviceRow))}
        given = {(hold.reservation, hold.serial) for hold in session.exec(select(HoldRow))}
    database.close()
    kept = [decode(Desired, payload) for payload in watcher.kept.values()]
    assert {d.serial: (d.generation, d.reservation) for d in kept} == {
        serial: (generation, None) for serial, generation in generations.items()
    }
    # All that was ever desired of a device had its reservation, with that device in it.
    desired = {(name, serial) for (serial, _), names in told.items() for name in names if name}
    assert desired <= given


@pytest.mark.parametrize("backend", ["sqlite"])
@pytest.mark.timeout(300)
def test_given_a_leader_that_is_told_to_stop_then_another_one_leads_and_answers(
    crowd: EmbeddedBroker, controls: Controls, watcher: Watcher, workers: list[RecordingWorker]
) -> None:
    watcher.beats.get(timeout=DEADLINE)
    alice = FakeClient(crowd.address("alice")).start()
    alice.wait_available(len(SERIALS))
    made = alice.reserve(count=2, client=alice.id)
    first = watcher.leader()

    controls.stop(first)
    second = watcher.leader(of=2)
    alice.end(made.id)
    alice.wait_available(len(SERIALS))
    alice.stop()

    assert second != first
    assert watcher.states[first].state is Presence.OFFLINE
    assert alice.count("device_failed") == 0
