"""What control does when others, or itself, die without a word."""

from __future__ import annotations

import json
import os
import queue
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.by_hand import publish_by_hand

from icebus.broker.embedded import EmbeddedBroker
from icebus.bus import Bus, wait_for
from icebus.control.server import Control
from icebus.control.settings import Settings
from icebus.control.store.database import Database
from icebus.schemas.calls import Request
from icebus.schemas.components import ControlState, Presence
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import Desired
from icebus.schemas.errors import DatabaseUnavailable
from icebus.schemas.message import decode
from icebus.schemas.operations.reservations import (
    EndReason,
    HoldState,
    Reservation,
    ReservationReply,
    ReservationState,
)
from icebus.schemas.topics import (
    CLIENT_STATE,
    CONTROL_STATE,
    DESIRED,
    DEVICE,
    OPERATION,
    RESERVATION,
    WORKER_HEARTBEAT,
    WORKER_KINDS,
    WORKER_STATE,
)

if TYPE_CHECKING:
    from tests.control.conftest import MakeClient, MakeWorker
    from tests.control.fakes import FakeClient, FakeWorker


with_longer_grace = pytest.mark.parametrize("control_settings", [Settings(interval=1.0, grace=5.0)])
"""Where nobody may be taken for lost, however busy this machine is with other tests."""


def is_active(document: Reservation) -> bool:
    return document.state is ReservationState.ACTIVE


@contextmanager
def control_process(broker: EmbeddedBroker, database_url: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "ICEBUS_BROKER": broker.address("main").url(),
        "ICEBUS_DATABASE": database_url,
    }
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "icebus.control.cli", "--id", "main"),
            *("--heartbeat", "1", "--grace", "2", "--log-level", "warning"),
        ],
        env=environment,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_state(states: queue.SimpleQueue[Presence], wanted: Presence) -> None:
    while states.get(timeout=30) is not wanted:
        pass


def wait_heartbeat(client: FakeClient, other_than: str = "") -> str:
    """The epoch of a control that beats."""
    while True:
        beat = client.heartbeats.get(timeout=30)
        if beat.epoch != other_than:
            return beat.epoch


def test_given_a_worker_that_dies_then_holders_are_told_and_again_when_it_is_back(
    control: Control, broker: EmbeddedBroker, make_worker: MakeWorker, alice: FakeClient
) -> None:
    worker = make_worker("w1", "a", "b")
    alice.wait_available(2)
    made = alice.reserve(count=2)
    alice.wait_document(made.id, is_active)

    worker.kill()
    for serial in ("a", "b"):
        failed = alice.wait_event("device_failed", serial=serial)
        assert failed.data["code"] == "worker_lost"
    alice.wait_document(made.id, lambda d: d.devices[0].state is HoldState.FAILED)
    make_worker("w1", "a", "b")
    for serial in ("a", "b"):
        alice.wait_event("initialized", number=2, serial=serial)

    assert [each.state for each in alice.list()] == [ReservationState.ACTIVE]
    assert alice.count("device_failed") == 2
    alice.end(made.id)
    alice.wait_available(2)


@with_longer_grace
def test_given_a_worker_that_falls_silent_then_holders_are_told_and_again_when_it_speaks(
    control: Control, make_worker: MakeWorker, alice: FakeClient
) -> None:
    worker = make_worker("w1", "a", "b")
    alice.wait_available(2)
    made = alice.reserve(serials=["a"])
    alice.wait_document(made.id, is_active)

    worker.echoing = False
    failed = alice.wait_event("device_failed", serial="a")
    none_left = alice.available().available
    worker.echoing = True
    alice.wait_event("initialized", number=2, serial="a")
    alice.wait_available(1)

    assert failed.data["code"] == "worker_lost"
    assert none_left == 0


def test_given_a_worker_that_was_away_when_released_then_it_learns_of_it_on_return(
    control: Control, make_worker: MakeWorker, alice: FakeClient
) -> None:
    worker = make_worker("w1", "a")
    alice.wait_available(1)
    made = alice.reserve(count=1)
    alice.wait_document(made.id, is_active)

    worker.kill()
    alice.wait_event("device_failed")
    alice.end(made.id)
    back = make_worker("w1", "a")

    assert back.wait_desired("a", lambda d: d.reservation is None).generation == 2
    alice.wait_available(1)


@with_longer_grace
def test_given_a_late_will_of_an_earlier_run_then_nobody_is_told_anything(
    control: Control, make_worker: MakeWorker, alice: FakeClient
) -> None:
    worker = make_worker("w1", "a")
    alice.wait_available(1)
    made = alice.reserve(count=1)
    alice.wait_document(made.id, is_active)

    will = b'{"state": "lost", "session": "earlier", "serials": ["a"]}'
    published = worker.bus.publish(WORKER_STATE(worker="w1"), will)
    wait_for(published, Deadline.after(5), "the broker")
    alice.extend(made.id, 1)

    assert alice.count("device_failed") == 0
    assert alice.devices().devices[0].fresh


def test_given_control_is_killed_when_it_is_back_then_reservations_go_on(
    broker: EmbeddedBroker, database_url: str, make_worker: MakeWorker, make_client: MakeClient
) -> None:
    alice, other = make_client("alice"), make_client("alice")
    states: queue.SimpleQueue[Presence] = queue.SimpleQueue()
    other.bus.subscribe(
        CONTROL_STATE, lambda said: states.put(decode(ControlState, said.payload).state)
    )
    make_worker("w1", "a", "b", "c")
    with control_process(broker, database_url) as process:
        first = wait_heartbeat(alice)
        alice.wait_available(3)
        detached = alice.ask("reserve", ReservationReply, "one", kind="pulsecount", count=1)
        attached = other.reserve(count=1, client=other.id)
        expiring = alice.reserve(count=1, duration=2.0)
        alice.wait_document(detached.reservation.id, is_active)
        alice.wait_document(attached.id, is_active)
        wait_state(states, Presence.ONLINE)
        process.send_signal(signal.SIGKILL)
        wait_state(states, Presence.LOST)
    alice.requester.close()
    alice = make_client("alice")
    with control_process(broker, database_url) as process:
        wait_heartbeat(alice, other_than=first)
        again = alice.ask("reserve", ReservationReply, "one", kind="pulsecount", count=1)
        ended = alice.wait_event("reservation_ended", reservation=expiring.id)
        alice.wait_available(1)
        listed = {each.id: each for each in alice.list()}
        process.send_signal(signal.SIGTERM)

        assert again.reservation.id == detached.reservation.id
        assert ended.data["reason"] == "expired"
        assert set(listed) == {detached.reservation.id, attached.id}
        assert all(each.state is ReservationState.ACTIVE for each in listed.values())
        assert alice.count("device_failed") == 0
        assert process.wait(timeout=30) == 0
        wait_state(states, Presence.OFFLINE)


def test_given_an_attached_client_gone_while_control_was_down_then_the_grace_counts_from_its_start(
    broker: EmbeddedBroker, make_worker: MakeWorker, make_client: MakeClient, database_url: str
) -> None:
    settings = Settings(interval=0.3, grace=0.6)
    alice, other = make_client("alice"), make_client("alice")
    make_worker("w1", "a")
    running = Control(broker.address("main"), Database(database_url), settings)
    running.start(Deadline.after(10))
    alice.wait_available(1)
    made = other.reserve(count=1, client=other.id)
    running.stop(Deadline.after(5))
    wait_for(other.bus.clear(other.topic), Deadline.after(5), "the broker")

    running = Control(broker.address("main"), Database(database_url), settings)
    running.start(Deadline.after(10))
    ended = alice.wait_event("reservation_ended", reservation=made.id)
    running.stop(Deadline.after(5))

    assert ended.data["reason"] == EndReason.CLIENT_LOST


@with_longer_grace
def test_given_the_broker_loses_everything_then_all_that_is_retained_comes_back(
    control: Control, broker: EmbeddedBroker, make_worker: MakeWorker, alice: FakeClient
) -> None:
    worker = make_worker("w1", "a", "b")
    alice.wait_available(2)
    made = alice.reserve(serials=["a"])
    alice.wait_document(made.id, is_active)
    epoch = wait_heartbeat(alice)

    broker.child.process.kill()
    broker.child.process.wait()
    (broker.directory / "mosquitto.db").unlink(missing_ok=True)
    with worker.changed:
        worker.desired.clear()
    alice.documents.clear()
    broker.start(Deadline.after(10))

    alice.wait_document(made.id, is_active)
    worker.wait_desired("a", lambda d: d.reservation == made.id)
    worker.wait_desired("b", lambda d: d.reservation is None)
    alice.wait_available(1)
    assert wait_heartbeat(alice) == epoch
    assert [each.state for each in alice.list()] == [ReservationState.ACTIVE]
    assert alice.count("device_failed") == 0


def test_given_documents_of_reservations_that_are_over_when_started_then_they_are_cleared(
    broker: EmbeddedBroker, database_url: str, make_client: MakeClient
) -> None:
    ghost = Reservation.model_validate(
        {
            "id": "ghost",
            "user": "alice",
            "kind": "pulsecount",
            "state": "active",
            "devices": [],
            "created": "2020-01-01T00:00:00Z",
            "until": "2020-01-01T01:00:00Z",
        }
    )
    earlier = Bus(broker.address("main"), "earlier")
    earlier.connect(Deadline.after(5))
    earlier.publish(RESERVATION(reservation="ghost"), ghost)
    stale = Desired(serial="a", generation=3, reservation="ghost", user="alice", kind="x")
    earlier.publish(DESIRED(worker="w1", serial="a"), stale)
    earlier.close(Deadline.after(5))
    alice = make_client("alice")
    alice.wait_document("ghost", lambda _document: True)

    running = Control(broker.address("main"), Database(database_url))
    running.start(Deadline.after(10))
    alice.wait_cleared("ghost")
    running.stop(Deadline.after(5))


GARBAGE: list[Any] = [
    b"",
    b"not json",
    b"\xff\xfe\x00",
    b"null",
    b"[]",
    b"42",
    b'"text"',
    b"{}",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"args": ' + b"[" * 150 + b"]" * 150 + b"}",
    b"x" * 1_000_000,
    b'{"id": "x", "args": {"kind": "pulsecount", "count": 1e400}}',
    b'{"id": "x", "args": {"kind": "pulsecount", "count": 1, "duration": NaN}}',
    b'{"id": "y", "args": {"reservation": "\\ud800"}}',
    b'{"id": "' + b"x" * 65 + b'"}',
    json.dumps({"state": "ready", "session": "s", "serials": "a"}).encode(),
    json.dumps({"state": "ready", "session": "s", "serials": ["#", "+", "/"]}).encode(),
    json.dumps({"state": "levitating", "session": "s"}).encode(),
    json.dumps({"serial": "b", "state": "ready", "session": "s", "since": "now"}).encode(),
    json.dumps(
        {
            "serial": "b",
            "state": "ready",
            "session": "s",
            "since": "9999-12-31T23:59:59-12:00",
            "generation": 10**30,
        }
    ).encode(),
    json.dumps(
        {
            "serial": "b",
            "state": "ready",
            "session": "s",
            "since": "2020-01-01T00:00:00Z",
            "generation": -1,
            "reason": "\u0000" * 1000,
        }
    ).encode(),
    json.dumps({"kinds": {"../x": {"firmware": "f", "args": {"type": "teapot"}}}}).encode(),
    json.dumps({"epoch": "e", "sequence": -1, "session": "s"}).encode(),
    json.dumps({"epoch": "e", "sequence": 10**30, "session": "s"}).encode(),
]


@with_longer_grace
def test_given_garbage_on_every_topic_then_control_goes_on(
    control: Control, make_worker: MakeWorker, make_client: MakeClient, alice: FakeClient
) -> None:
    make_worker("w1", "a")
    vandal_worker: FakeWorker = make_worker("w2")
    vandal = make_client("bob")
    alice.wait_available(1)
    made = alice.reserve(count=1)
    alice.wait_document(made.id, is_active)

    for payload in GARBAGE:
        for topic in (
            WORKER_STATE(worker="w2"),
            WORKER_KINDS(worker="w2"),
            WORKER_HEARTBEAT(worker="w2"),
            DEVICE(worker="w2", serial="b"),
        ):
            publish_by_hand(vandal_worker.bus, topic, payload)
        for topic in (
            CLIENT_STATE(user="bob", client="c"),
            *(OPERATION(user="bob", operation=each) for each in ("reserve", "list", "brew")),
        ):
            publish_by_hand(vandal.bus, topic, payload)
    for args in ({"kind": "pulsecount", "count": 1, "args": {"window": [[[[[]]]]]}}, {"a": None}):
        topic = OPERATION(user="bob", operation="reserve")
        vandal.bus.publish(topic, Request(args=args), deadline=Deadline.after(10))
    assert vandal_worker.bus.flush(Deadline.after(10))
    assert vandal.bus.flush(Deadline.after(10))

    assert vandal.list()[0].id == made.id
    alice.end(made.id)
    alice.wait_available(1)
    assert control._thread.is_alive()


RUN_ALL = """
import sys
from icebus.control.cli import main
for line in sys.stdin:
    sys.argv = ["icebus-control", "--log-level", "error", *line.split()]
    try:
        main()
    except SystemExit as end:
        print(end.code)
"""


def test_given_wrong_arguments_then_one_line_on_stderr_names_the_remedy(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    main = f"--broker mqtt://main:wrong@127.0.0.1:{broker.port}"
    remedies = {
        "": "ICEBUS_BROKER",
        main: "check the user and password",
        f"--broker mqtt://127.0.0.1:{broker.port}": "mqtts://user:password@host",
        "--broker http://example.org": "mqtts://user:password@host",
        f"{main} --id other": "--id main",
        f"{main} --database nonsense": "sqlite:////",
        f"{main} --heartbeat nan": "at least",
    }

    finished = subprocess.run(
        [sys.executable, "-c", RUN_ALL],
        input="\n".join(remedies),
        env={**os.environ, "ICEBUS_BROKER": "", "XDG_STATE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert finished.stdout.split() == ["1"] * len(remedies)
    lines = finished.stderr.strip().splitlines()
    assert len(lines) == len(remedies)
    for line, remedy in zip(lines, remedies.values(), strict=True):
        assert remedy in line


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody else is in a transaction of the file."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.close()


@contextmanager
def no_room(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """A process can make no file any longer, as on a full disk."""
    before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("backend", ["sqlite"])
@pytest.mark.parametrize("fault", ["locked", "full"])
def test_given_a_database_that_takes_nothing_then_requests_say_so_and_it_goes_on_by_itself(
    broker: EmbeddedBroker,
    database_url: str,
    make_worker: MakeWorker,
    alice: FakeClient,
    fault: str,
) -> None:
    path = Path(database_url.removeprefix("sqlite:///"))
    worker = make_worker("w1", "a", "b")
    with control_process(broker, database_url) as process:
        wait_heartbeat(alice)
        alice.wait_available(2)
        made = alice.reserve(serials=["a"])
        alice.wait_document(made.id, is_active)

        with (
            locked(path) if fault == "locked" else no_room(process),
            pytest.raises(
                DatabaseUnavailable, match="is locked" if fault == "locked" else "of its disk"
            ),
        ):
            alice.reserve(serials=["b"])
        again = alice.reserve_when_back(serials=["b"])

        worker.wait_desired("b", lambda desired: desired.reservation == again.id)
        assert [each.id for each in alice.list()] == [made.id, again.id]
        assert alice.count("device_failed") == 0
