"""A site's broker bridged to the farm's: two real Mosquittos, and what crosses between them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from icebus.broker.access import Principal, check_principals
from icebus.broker.bridge import Upstream
from icebus.broker.directory import BrokerDirectory
from icebus.broker.embedded import EmbeddedBroker
from icebus.broker.process import Child
from icebus.bus import Bus, Requester, Responder, Will, wait_for
from icebus.client import PulseCountClient
from icebus.schemas.calls import Call
from icebus.schemas.components import WorkerPhase, WorkerState
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import Desired
from icebus.schemas.errors import Conflict, InvalidRequest, NotAuthorized
from icebus.schemas.message import Message, decode
from icebus.schemas.topics import CALL, DESIRED, WORKER_STATE, Role

SITE = Principal(id="oslo", role=Role.WORKER, speaks_for=("w1", "w2"))
FARM = [
    Principal(id="main", role=Role.CONTROL),
    Principal(id="alice", role=Role.USER),
    Principal(id="eve", role=Role.OBSERVER),
    SITE,
]
HERE = [Principal(id=name, role=Role.WORKER) for name in ("w1", "w2")]


class Answer(Message):
    word: str


@dataclass
class Pair:
    """The broker of a farm, and that of a site."""

    farm: EmbeddedBroker
    site: EmbeddedBroker
    _buses: list[Bus]

    def connect(self, broker: EmbeddedBroker, name: str, will: Will | None = None) -> Bus:
        bus = Bus(broker.address(name), name, will=will)
        self._buses.append(bus)
        bus.connect(Deadline.after(10))
        return bus


@pytest.fixture
def pair(tmp_path: Path, mosquitto: None) -> Iterator[Pair]:
    """Both run, and are bridged."""
    farm = EmbeddedBroker(tmp_path / "farm", FARM)
    farm.start(Deadline.after(10))
    site = EmbeddedBroker(tmp_path / "site", HERE)
    upstream = Upstream.at(farm.address("oslo"), SITE.speaks_for)
    BrokerDirectory(tmp_path / "site").bridge(upstream)
    site.start(Deadline.after(10))
    both = Pair(farm, site, [])
    yield both
    for bus in both._buses:
        bus.close(Deadline.after(0.1))
    site.stop(Deadline.after(5))
    farm.stop(Deadline.after(5))


def state(phase: WorkerPhase) -> WorkerState:
    return WorkerState(state=phase, session="s1")


def test_given_a_site_when_its_worker_speaks_then_the_farm_hears_and_keeps_it(
    pair: Pair, inbox: Any
) -> None:
    worker = pair.connect(pair.site, "w1", Will(WORKER_STATE(worker="w1"), state(WorkerPhase.LOST)))
    heard = inbox()
    pair.connect(pair.farm, "eve").subscribe(WORKER_STATE, heard)
    worker.publish(WORKER_STATE(worker="w1"), state(WorkerPhase.READY))
    heard.wait(1)
    late = inbox()
    pair.connect(pair.farm, "eve").subscribe(WORKER_STATE, late)
    (kept,) = late.wait(1)
    assert decode(WorkerState, kept.payload).state is WorkerPhase.READY
    assert kept.retained


def test_given_a_site_when_control_desires_then_also_a_worker_that_comes_later_knows(
    pair: Pair, inbox: Any
) -> None:
    early = inbox()
    first = pair.connect(pair.site, "w1")
    first.subscribe(DESIRED, early, worker="w1")
    main = pair.connect(pair.farm, "main")
    for generation in (1, 2):
        desired = Desired(serial="A", generation=generation)
        main.publish(DESIRED(worker="w1", serial="A"), desired)
    # Before the bridge stands, the farm keeps only the newest: nothing else is promised.
    eventually(lambda: any(decode(Desired, each).generation == 2 for each in early.payloads))
    late = inbox()
    pair.connect(pair.site, "w1").subscribe(DESIRED, late, worker="w1")
    (kept,) = late.wait(1)
    assert decode(Desired, kept.payload).generation == 2


def test_given_a_site_when_its_worker_is_called_then_the_answer_finds_its_way(pair: Pair) -> None:
    worker = pair.connect(pair.site, "w1")
    responder = Responder(worker, "w1")

    def answer(incoming: Any) -> None:
        exchange = responder.accept(incoming, Call)
        if exchange is not None:
            exchange.succeed(Answer(word=exchange.user))

    wait_for(worker.subscribe(CALL, answer, worker="w1").acknowledged, Deadline.after(10), "site")
    asker = Requester(pair.connect(pair.farm, "alice"), "alice", "c1")
    call = Call(reservation="r", serials=["A"])
    topic = CALL(worker="w1", user="alice", method="ping")
    reply = asker.send(topic, call, "w1", Answer, Deadline.after(20)).wait()
    assert reply.word == "alice"


def test_given_a_site_when_the_farm_was_away_then_what_was_said_meanwhile_arrives(
    pair: Pair, inbox: Any
) -> None:
    heard = inbox()
    worker = pair.connect(pair.site, "w1")
    pair.connect(pair.farm, "eve").subscribe(WORKER_STATE, heard)
    worker.publish(WORKER_STATE(worker="w1"), state(WorkerPhase.INIT))
    heard.wait(1)
    pair.farm.stop(Deadline.after(5))
    said = worker.publish(WORKER_STATE(worker="w1"), state(WorkerPhase.READY))
    wait_for(said, Deadline.after(10), "the site's broker")
    pair.farm.start(Deadline.after(10))
    eventually(lambda: decode(WorkerState, heard.payloads[-1]).state is WorkerPhase.READY)


def test_given_a_site_then_it_can_speak_for_nobody_else(pair: Pair) -> None:
    imposter = pair.connect(pair.farm, "oslo")
    said = imposter.publish(WORKER_STATE(worker="w3"), state(WorkerPhase.READY))
    with pytest.raises(NotAuthorized):
        wait_for(said, Deadline.after(10), "the farm's broker")


@pytest.mark.parametrize(
    "others",
    [
        [Principal(id="w1", role=Role.WORKER)],
        [Principal(id="rome", role=Role.WORKER, speaks_for=("w2",))],
        [Principal(id="bob", role=Role.USER, speaks_for=("w9",))],
        [Principal(id="rome", role=Role.WORKER, speaks_for=("control",))],
    ],
)
def test_given_a_name_that_two_could_speak_for_then_it_is_refused(others: list[Principal]) -> None:
    with pytest.raises(InvalidRequest):
        check_principals([SITE, *others])


def test_given_a_broker_that_runs_when_bridged_then_it_says_to_stop_it(pair: Pair) -> None:
    with pytest.raises(Conflict, match="stop it"):
        BrokerDirectory(pair.site.directory).bridge(None)


def test_given_a_farm_of_another_root_when_bridged_then_it_is_refused(tmp_path: Path) -> None:
    EmbeddedBroker(tmp_path / "site", HERE)
    upstream = Upstream(url="mqtt://oslo:secret@farm:1883/other/root", workers=("w1",))
    with pytest.raises(InvalidRequest, match="--root"):
        BrokerDirectory(tmp_path / "site").bridge(upstream)


def test_given_boards_at_a_site_when_a_user_of_the_farm_evaluates_then_the_counts_come_back(
    pair: Pair, tmp_path: Path
) -> None:
    started: list[Child] = []

    def start(program: str, url: str, *arguments: str) -> None:
        argv = [sys.executable, "-m", f"icebus.{program}.cli", *arguments]
        started.append(Child(argv, tmp_path / f"{program}.log", {"ICEBUS_BROKER": url}))

    rack = str(tmp_path / "rack")
    main, w1 = pair.farm.address("main").url(), pair.site.address("w1").url()
    try:
        start("rack", "", "run", "--directory", rack, "--boards", "2", "--window", "0.05")
        start("worker", w1, "--rack", rack, "--directory", str(tmp_path / "w1"))
        start("control", main, "--database", f"sqlite:///{tmp_path / 'c.db'}", "--id", "main")
        with PulseCountClient(pair.farm.address("alice").url()) as client:
            eventually(lambda: len(client.available("pulsecount")) == 2)
            with client.reserve(2) as boards:
                found = list(boards.evaluate(["examples/circuits/pulse_2khz.bin"]))
    finally:
        for child in reversed(started):
            child.stop(Deadline.after(10))
    assert [98 <= each.pulses <= 100 for each in found] == [True, True]


def eventually(true: Callable[[], bool]) -> None:
    deadline = Deadline.after(60)
    while not true():
        assert not deadline.expired
        threading.Event().wait(0.1)
