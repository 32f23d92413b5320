"""Several controls on one database: who leads, how that passes on, and what the others do."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlmodel import select
from tests.control.cluster import Cluster, Member

from icebus.control.store.database import Database
from icebus.control.store.lease import Lease, LeaseRow
from icebus.control.store.outbox import Outgoing
from icebus.control.watch.workers import Workers
from icebus.schemas.components import (
    ControlState,
    Presence,
    WorkerHeartbeat,
    WorkerPhase,
    WorkerState,
)
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import Desired
from icebus.schemas.errors import NotEnoughDevices
from icebus.schemas.liveness import Health
from icebus.schemas.topics import DESIRED, RESERVATION


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    yield made
    made.close()


@pytest.fixture
def cluster(database: Database) -> Cluster:
    return Cluster(database, "a", "b")


def reserve(control: Member, name: str = "it", **args: object) -> str:
    asked = control.ask("reserve", name, **{"kind": "pulsecount", "count": 1, **args})
    assert asked.error is None
    made: str = asked.ok["reservation"]["id"]
    return made


def wait_for(lease: Lease) -> float:
    """Campaign until it is won; returns the seconds that took."""
    deadline, pause = Deadline.after(20), threading.Event()
    while True:
        ours, again = lease.acquire()
        if ours:
            return 20 - deadline.remaining
        deadline.check("the lease")
        pause.wait(again)


# --- the lease ----------------------------------------------------------------------------------


def test_given_a_lease_that_is_held_then_nobody_else_has_it_until_it_is_given_up(
    database: Database,
) -> None:
    first, second = Lease(database, "first", 60.0), Lease(database, "second", 60.0)

    assert first.acquire() == (True, 30.0)
    assert second.acquire() == (False, 30.0)
    assert first.acquire()[0]
    first.release()
    assert second.acquire()[0]
    second_only = [first.acquire()[0], second.acquire()[0]]
    first.release()

    assert second_only == [False, True]
    assert second.acquire()[0]


def test_given_a_lease_that_is_not_renewed_then_it_runs_out_within_two_heartbeats(
    database: Database,
) -> None:
    first, second = Lease(database, "first", 0.4), Lease(database, "second", 0.4)
    first.acquire()

    taken_after = wait_for(second)

    assert second.duration < 2 * 0.4
    assert taken_after > 0.3
    assert not first.acquire()[0]


def test_given_a_holder_that_is_dead_then_its_lease_need_not_run_out(database: Database) -> None:
    first, second = Lease(database, "first", 60.0), Lease(database, "second", 60.0)
    first.acquire()

    second.holder_ended("somebody else")
    assert not second.acquire()[0]
    second.holder_ended("first")
    assert second.acquire()[0]


def test_given_a_holder_that_was_thought_dead_then_its_lease_is_its_own_again(
    database: Database,
) -> None:
    first, second = Lease(database, "first", 60.0), Lease(database, "second", 60.0)
    first.acquire()

    second.holder_ended("first")
    second.holder_is_alive("somebody else")
    second.holder_is_alive("first")

    assert not second.acquire()[0]


def test_given_a_database_whose_clock_was_set_back_then_the_lease_still_runs_out(
    database: Database,
) -> None:
    with database.transaction() as session:
        session.add(LeaseRow(name="leader", session="dead", expires=4e9))

    taken_after = wait_for(Lease(database, "second", 0.2))

    assert taken_after > 0.3


def test_given_a_leader_that_is_late_and_that_nobody_replaced_then_it_leads_on(
    database: Database,
) -> None:
    lease = Lease(database, "first", 60.0)
    lease.acquire()
    with database.transaction() as session:
        session.exec(select(LeaseRow)).one().expires = 0.0

    with database.transaction() as session:
        assert lease.is_held(session)
    assert lease.acquire()[0]


# --- controls -----------------------------------------------------------------------------------


def test_given_two_controls_then_one_leads_and_tells_what_either_decides(cluster: Cluster) -> None:
    first, second = cluster.start(), cluster.start()

    one, two = reserve(first, "one"), reserve(second, "two")

    assert cluster.leaders == [first]
    assert {d.reservation for d in cluster.desired.values()} == {one, two}
    assert cluster.events.count("initialized") == 2
    cluster.check()


def test_given_a_leader_that_stops_then_another_leads_at_once(cluster: Cluster) -> None:
    first, second = cluster.start(), cluster.start()
    made = reserve(first)

    first.engine.release_lease()
    cluster.kill(first)
    cluster.run_until_quiet()

    assert cluster.leaders == [second]
    assert second.ask("list", "l").ok["reservations"][0]["id"] == made
    cluster.check()


def test_given_controls_that_each_took_the_other_for_dead_when_both_are_back_then_one_leads_on(
    cluster: Cluster,
) -> None:
    first, second = cluster.start(), cluster.start()
    # A broker that is stopped says of everybody that they are lost, to those still there.
    for said in (Presence.LOST, Presence.ONLINE):
        for one, other in ((first, second), (second, first)):
            one.engine.on_control(ControlState(state=said, session=other.session))

    leading = []
    for _ in range(6):
        for member in (first, second):
            member.engine.leadership.check_at = 0.0
        cluster.run_until_quiet()
        leading.append(cluster.leaders)

    assert leading == [[first]] * 6
    cluster.check()


def test_given_a_follower_that_died_before_it_could_say_so_then_the_next_heartbeat_tells(
    cluster: Cluster,
) -> None:
    cluster.start()
    second = cluster.start()

    second.life.left = 2  # the request is committed, the note to the leader not sent
    second.ask("reserve", "it", kind="pulsecount", count=1)
    unsaid = [d.reservation for d in cluster.desired.values() if d.reservation]
    cluster.beat()

    assert not second.alive
    assert unsaid == []
    assert [d.reservation for d in cluster.desired.values() if d.reservation] == [
        cluster.reservations()[0].id
    ]
    cluster.check()


def test_given_a_deposed_leader_that_does_not_know_then_nothing_that_it_decides_is_kept(
    cluster: Cluster,
) -> None:
    first, second = cluster.start(), cluster.start()
    made = reserve(first)
    # The broker took it for dead, and it has heard nothing of that yet.
    cluster.lost.append(first.session)
    second.engine.leadership.lease.holder_ended(first.session)
    second.engine.leadership.check_at = 0.0
    second.advance()
    assert first.engine.leading

    first.inbox.clear()
    cluster.say("c", Presence.ONLINE)
    first.engine._pending.serials.add("a")
    first.advance()

    assert not first.engine.leading
    assert [row.id for row in cluster.reservations()] == [made]
    cluster.run_until_quiet()
    cluster.check()


@pytest.mark.parametrize("late", ["desired", "document", "clear"])
def test_given_late_messages_of_a_former_leader_then_the_broker_keeps_what_is_true(
    cluster: Cluster, late: str
) -> None:
    first, second = cluster.start(), cluster.start()
    made = reserve(first, serials=["a"], count=None)
    topic = RESERVATION(reservation=made)
    stale = Outgoing(DESIRED(worker="w1", serial="a"), Desired(serial="a", generation=0))
    if late == "document":
        stale = Outgoing(topic, cluster.retained[topic])
        first.ask("end", "e", reservation=made)
    elif late == "clear":
        stale = Outgoing(topic, b"")

    cluster.publish(second, stale)
    cluster.run_until_quiet()

    cluster.check()


def test_given_a_leader_that_died_with_something_to_clear_then_the_next_one_clears_it(
    cluster: Cluster,
) -> None:
    first = cluster.start()
    made = reserve(first)
    second = cluster.start()

    kept = cluster.retained[RESERVATION(reservation=made)]
    second.ask("end", "e", reservation=made)
    cluster.retained[RESERVATION(reservation=made)] = kept
    second.engine.retained.on_document(made, empty=False)
    second.engine.on_document(made, live=True)
    cluster.kill(first)
    cluster.run_until_quiet()

    assert cluster.leaders == [second]
    cluster.check()


def test_given_a_worker_that_missed_what_is_desired_then_it_is_told_with_the_next_heartbeat(
    cluster: Cluster,
) -> None:
    control = cluster.start()
    cluster.unreachable = True
    made = reserve(control, serials=["a"], count=None)
    unheard = cluster.desired["a"].reservation

    cluster.unreachable = False
    cluster.beat()

    assert unheard is None
    assert cluster.desired["a"].reservation == made
    cluster.check()


@pytest.mark.parametrize("leader_knows", [True, False])
def test_given_a_client_of_which_only_one_control_has_heard_then_the_leader_is_right(
    cluster: Cluster, leader_knows: bool
) -> None:
    first, second = cluster.start(), cluster.start()
    cluster.say("c", Presence.ONLINE)
    (second if leader_knows else first).engine._clients.on_state("alice", "c", None, 0.0)

    made = reserve(second, client="c")

    assert [row.id for row in cluster.reservations()] == ([made] if leader_knows else [])
    cluster.check()


def test_given_attached_reservations_when_another_leads_then_they_go_on(cluster: Cluster) -> None:
    first, second = cluster.start(), cluster.start()
    cluster.say("c", Presence.ONLINE)
    made = reserve(first, client="c")

    cluster.kill(first)
    cluster.run_until_quiet()

    assert cluster.leaders == [second]
    assert [row.id for row in cluster.reservations()] == [made]
    cluster.say("c", Presence.OFFLINE)
    assert cluster.reservations() == []
    cluster.check()


def test_given_a_request_that_was_refused_when_it_reaches_another_control_then_it_is_too(
    cluster: Cluster,
) -> None:
    first, second = cluster.start(), cluster.start()
    held = reserve(first, "all", count=2)
    refused = second.ask("reserve", "it", kind="pulsecount", count=1)
    first.ask("end", "e", reservation=held)

    again = first.ask("reserve", "it", kind="pulsecount", count=1)

    assert isinstance(refused.error, NotEnoughDevices)
    assert isinstance(again.error, NotEnoughDevices)
    assert again.error.message == refused.error.message
    assert cluster.reservations() == []
    assert reserve(first, "another")


# --- silence ------------------------------------------------------------------------------------


def test_given_that_we_stood_still_then_no_worker_counts_as_silent_for_it() -> None:
    workers = Workers(interval=1.0)
    workers.connected(0.0)
    workers.on_state("w", WorkerState(state=WorkerPhase.READY, session="s", serials=[]), 0.0)
    for second in range(3):
        workers.discount_pause(float(second))
        workers.on_heartbeat("e", second, float(second))
        echo = WorkerHeartbeat(epoch="e", sequence=second, session="s")
        workers.on_echo("w", echo, float(second))

    workers.discount_pause(60.0)
    after = workers.health("w", 60.0)
    for second in range(61, 64):
        workers.discount_pause(float(second))

    assert after is Health.READY
    assert workers.health("w", 63.5) is Health.GONE


def test_given_that_nobody_beat_for_long_then_workers_have_as_long_as_ever_to_answer() -> None:
    workers = Workers(interval=1.0)
    workers.connected(0.0)
    workers.on_state("w", WorkerState(state=WorkerPhase.READY, session="s", serials=[]), 0.0)
    workers.on_heartbeat("old", 7, 0.0)
    workers.on_echo("w", WorkerHeartbeat(epoch="old", sequence=7, session="s"), 0.1)
    silent = workers.health("w", 9.0)

    workers.on_heartbeat("epoch", 0, 9.0)

    assert silent is Health.GONE
    assert workers.health("w", 9.0) is Health.UNKNOWN
    assert workers.health("w", 12.1) is Health.GONE
