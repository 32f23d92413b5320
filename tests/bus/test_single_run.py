"""One run under a name: who starts second is refused, whoever stands in whose way."""

from __future__ import annotations

import os
import platform
import queue
import time
from typing import Any

import pytest
from tests.connections import cut, published, soon, subscribed

from icebus.broker.directory import BrokerDirectory
from icebus.broker.embedded import EmbeddedBroker
from icebus.bus import Bus, SingleRun, _single_run, check_role, glance, wait_for
from icebus.schemas.components import ControlState, Presence, Run, WorkerPhase, WorkerState
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import AlreadyRunning, NotAuthorized, WrongRole
from icebus.schemas.ids import new_id
from icebus.schemas.message import decode, now
from icebus.schemas.topics import CONTROL_STATE, RUN, WORKER_STATE, Role

Others = queue.SimpleQueue[AlreadyRunning]


def state_of(bus: Bus, role: Role, session: str, *, there: bool) -> None:
    """Have the broker retain that a run is there, or was."""
    name = bus.address.user
    if role is Role.WORKER:
        phase = WorkerPhase.READY if there else WorkerPhase.LOST
        worker = WorkerState(state=phase, session=session)
        wait_for(bus.publish(WORKER_STATE(worker=name), worker), soon(), "the broker")
    else:
        presence = Presence.ONLINE if there else Presence.LOST
        control = ControlState(state=presence, session=session)
        wait_for(bus.publish(CONTROL_STATE(control=name), control), soon(), "the broker")


def run(bus: Bus, role: Role, others: Others | None = None) -> tuple[SingleRun, str]:
    session = new_id()
    return SingleRun(bus, role, session, others.put if others else lambda _: None), session


NAMES = [("w1", Role.WORKER), ("main", Role.CONTROL)]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a run that does not answer waits longer than any test does."""
    monkeypatch.setattr(_single_run, "ANSWER_TIME", 60.0)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(("name", "role"), NAMES)
def test_given_a_run_when_a_second_starts_then_that_is_refused_and_names_the_first(
    connect: Any, name: str, role: Role
) -> None:
    first, second = connect(name), connect(name)
    others: Others = queue.SimpleQueue()
    running, session = run(first, role, others)
    running.begin(soon())
    state_of(first, role, session, there=True)
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(AlreadyRunning) as refused:
            run(second, role)[0].begin(soon())
        assert time.monotonic() - began < 8
        details = refused.value.details
        assert (details["pid"], details["session"]) == (os.getpid(), session)
        for told in (platform.node(), str(os.getpid()), session, f"--role {role}"):
            assert told in refused.value.message
    assert others.empty()


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(("name", "role"), NAMES)
def test_given_a_run_that_was_killed_when_started_again_then_it_begins_at_once(
    connect: Any, name: str, role: Role
) -> None:
    bus = connect(name)
    state_of(bus, role, "dead", there=False)
    began = time.monotonic()
    run(bus, role)[0].begin(soon())
    assert time.monotonic() - began < 8


def test_given_a_run_that_vanished_with_its_machine_then_the_next_begins_within_seconds(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_single_run, "ANSWER_TIME", 1.0)
    bus = connect("w1")
    state_of(bus, Role.WORKER, "vanished", there=True)
    began = time.monotonic()
    run(bus, Role.WORKER)[0].begin(soon())
    assert 0.9 < time.monotonic() - began < 15


@pytest.mark.usefixtures("patient")
def test_given_a_run_of_which_the_broker_says_meanwhile_that_it_is_lost_then_nobody_waits_for_it(
    connect: Any,
) -> None:
    bus, broker_says = connect("w1"), connect("w1")
    state_of(bus, Role.WORKER, "dying", there=True)
    asked = Inboxes()
    subscribed(broker_says, RUN, asked, role="worker", principal="w1")
    asked.then = lambda: state_of_later(broker_says)
    began = time.monotonic()
    run(bus, Role.WORKER)[0].begin(soon())
    assert time.monotonic() - began < 8


class Inboxes:
    """Does something at the first message."""

    def __init__(self) -> None:
        self.then: Any = lambda: None

    def __call__(self, _incoming: Any) -> None:
        then, self.then = self.then, lambda: None
        then()


def state_of_later(bus: Bus) -> None:
    """As :func:`state_of` on the dispatcher, where nobody waits."""
    lost = WorkerState(state=WorkerPhase.LOST, session="dying")
    bus.publish(WORKER_STATE(worker="w1"), lost)


@pytest.mark.parametrize("attempt", range(4))
def test_given_runs_that_start_at_the_same_moment_then_one_of_them_runs(
    connect: Any, eventually: Any, attempt: int
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    buses = [connect("w1") for _ in range(3)]
    ended: list[AlreadyRunning] = []

    def begin(bus: Bus) -> AlreadyRunning | None:
        mine = SingleRun(bus, Role.WORKER, new_id(), ended.append)
        try:
            mine.begin(soon())
        except AlreadyRunning as refused:
            return refused
        kept.append(mine)
        return None

    kept: list[SingleRun] = []
    with ThreadPoolExecutor(3) as pool:
        refused = [each for each in pool.map(begin, buses) if each is not None]
    # One that had begun a moment before it could hear of the other ends.
    eventually(lambda: len(refused) + len(ended) == 2)
    assert len(kept) - len(ended) == 1


def test_given_a_run_that_was_away_when_another_has_begun_meanwhile_then_the_first_ends(
    connect: Any, eventually: Any
) -> None:
    first, second = connect("w1"), connect("w1")
    others: Others = queue.SimpleQueue()
    running, session = run(first, Role.WORKER, others)
    running.begin(soon())
    # Away for the second: it is not there to answer.
    running._asked = False
    state_of(first, Role.WORKER, session, there=False)
    run(second, Role.WORKER)[0].begin(soon())
    cut(first)
    assert others.get(timeout=15).details["pid"] == os.getpid()


def test_given_a_run_that_lost_its_connection_when_it_is_back_then_it_goes_on(
    connect: Any, eventually: Any
) -> None:
    bus = connect("w1")
    others: Others = queue.SimpleQueue()
    running, _ = run(bus, Role.WORKER, others)
    running.begin(soon())
    cut(bus)
    eventually(lambda: not bus.connected)
    eventually(lambda: bus.connected and running._asked)
    assert others.empty()


def test_given_a_run_that_the_broker_knows_when_it_is_back_just_as_another_starts_then_it_goes_on(
    connect: Any,
) -> None:
    bus, back = connect("w1"), connect("w1")
    state_of(bus, Role.WORKER, "back", there=True)
    heard = Inboxes()
    question = Run(session="back", host="lab1", pid=7, since=now())
    heard.then = lambda: back.publish(RUN(role="worker", principal="w1"), question)
    subscribed(back, RUN, heard, role="worker", principal="w1")
    with pytest.raises(AlreadyRunning, match="lab1"):
        run(bus, Role.WORKER)[0].begin(soon())


def test_given_nonsense_where_runs_are_asked_for_then_a_run_goes_on(connect: Any) -> None:
    first, second = connect("w1"), connect("w1")
    running, session = run(first, Role.WORKER)
    running.begin(soon())
    published(second, RUN(role="worker", principal="w1"), b"nonsense")
    published(second, RUN(role="worker", principal="w1"), b"")
    state_of(first, Role.WORKER, session, there=True)
    with pytest.raises(AlreadyRunning):
        run(second, Role.WORKER)[0].begin(soon())


# --- roles ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "role"),
    [("alice", "a user"), ("eve", "an observer"), ("root", "an admin"), ("w1", "a worker")],
)
def test_given_credentials_of_another_role_when_control_starts_then_it_says_so(
    connect: Any, name: str, role: str
) -> None:
    main = connect("main")
    state_of(main, Role.CONTROL, "s", there=False)
    with pytest.raises(WrongRole) as refused:
        run(connect(name), Role.CONTROL)[0].begin(soon())
    assert f"{name} is {role} here; icebus-control needs credentials of role control" in str(
        refused.value
    )
    assert "icebus-broker add NAME --role control" in refused.value.message


@pytest.mark.parametrize(
    ("name", "role"), [("alice", "a user"), ("eve", "an observer"), ("main", "a control")]
)
def test_given_credentials_of_another_role_when_a_worker_starts_then_it_says_so(
    connect: Any, name: str, role: str
) -> None:
    state_of(connect("main"), Role.CONTROL, "s", there=False)
    with pytest.raises(WrongRole, match=f"{name} is {role} here; icebus-worker needs"):
        run(connect(name), Role.WORKER)[0].begin(soon())


@pytest.mark.parametrize(("name", "role"), [("w1", "a worker"), ("main", "a control")])
def test_given_credentials_of_a_program_when_a_person_uses_them_then_it_is_said(
    connect: Any, name: str, role: str
) -> None:
    with pytest.raises(WrongRole, match=f"{name} is {role} here"):
        check_role(connect(name), Role.OBSERVER, "icebus", soon())


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("alice", Role.CONTROL), ("root", Role.WORKER), ("w1", Role.CONTROL), ("main", Role.OBSERVER)],
)
def test_given_credentials_of_another_role_when_health_is_asked_for_then_it_is_said_and_not_judged(
    broker: EmbeddedBroker, name: str, wanted: Role
) -> None:
    with pytest.raises(WrongRole, match=f"{name} is .* here; icebus-x needs credentials"):
        glance(broker.address(name), "health", [], lambda _: True, soon(), (wanted, "icebus-x"))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("main", Role.CONTROL), ("w1", Role.WORKER), ("eve", Role.OBSERVER), ("alice", Role.OBSERVER)],
)
def test_given_credentials_of_the_right_role_when_health_is_asked_for_then_it_is_found_out(
    broker: EmbeddedBroker, name: str, wanted: Role
) -> None:
    address = broker.address(name)
    assert glance(address, "health", [], lambda _: True, soon(), (wanted, "x")).problem is None


@pytest.mark.parametrize("name", ["alice", "root", "eve"])
def test_given_a_person_then_they_pass(connect: Any, name: str) -> None:
    state_of(connect("main"), Role.CONTROL, "s", there=True)
    check_role(connect(name), Role.OBSERVER, "icebus", soon())


@pytest.mark.parametrize("name", ["alice", "eve", "main", "w1"])
def test_given_a_wrong_root_then_the_path_is_the_remedy(broker: EmbeddedBroker, name: str) -> None:
    from dataclasses import replace

    bus = Bus(replace(broker.address(name), root="icebus/v2"), name)
    bus.connect(soon())
    with pytest.raises(NotAuthorized, match="icebus/v2") as refused:
        check_role(bus, Role.OBSERVER, "icebus", soon())
    bus.close(soon())
    if name != "eve":  # of whom nobody hears that she may anything
        assert "end the URL with /icebus/v1" in refused.value.message


def test_given_an_access_list_of_before_then_programs_of_the_right_role_start(
    broker: EmbeddedBroker, connect: Any
) -> None:
    before_runs = broker.directory / "acl"
    lines = before_runs.read_text().splitlines(keepends=True)
    before_runs.write_text("".join(line for line in lines if "/run/" not in line))
    pid = BrokerDirectory(broker.directory).pid
    assert pid is not None
    os.kill(pid, 1)  # SIGHUP
    for name, role in NAMES:
        run(connect(name), role)[0].begin(Deadline.after(10))
    check_role(connect("alice"), Role.USER, "icebus", soon())
    with pytest.raises(WrongRole, match="alice is a user here"):
        run(connect("alice"), Role.CONTROL)[0].begin(soon())


def test_when_a_run_asks_then_it_says_who_it_is(connect: Any, inbox: Any) -> None:
    bus, heard = connect("w1"), inbox()
    subscribed(connect("w1"), RUN, heard, role="worker", principal="w1")
    asking, session = run(bus, Role.WORKER)
    asking.begin(soon())
    told = decode(Run, heard.wait(1)[0].payload)
    assert (told.session, told.host, told.pid) == (session, platform.node(), os.getpid())
    assert told.answers is None
