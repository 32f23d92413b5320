"""The queue and administration over a real broker: what crosses, and what outlives a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from icebus.broker.embedded import EmbeddedBroker
from icebus.bus import Incoming, wait_for
from icebus.control.server import Control
from icebus.control.settings import Settings
from icebus.control.store.database import Database
from icebus.schemas.calls import Request
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import WorkerDesired
from icebus.schemas.ids import CONTROL, new_id
from icebus.schemas.message import decode
from icebus.schemas.operations.administration import DevicesChanged, WorkerChanged
from icebus.schemas.operations.history import HistoryReply
from icebus.schemas.operations.reservations import EndReason, ReservationReply, ReservationState
from icebus.schemas.topics import ADMIN, DESIRED, DEVICE, WORKER_DESIRED

if TYPE_CHECKING:
    from tests.control.conftest import MakeClient, MakeWorker
    from tests.control.fakes import FakeClient

PATIENT = Settings(interval=1.0, grace=5.0, max_duration=7200)


@pytest.fixture
def control_settings() -> Settings:
    return PATIENT


def order(root: FakeClient, operation: str, answer: type, **args: object) -> object:
    topic = ADMIN(user=root.user, operation=operation)
    request = Request(id=new_id(), args=args)
    return root.requester.send(topic, request, CONTROL, answer, Deadline.after(20)).wait()


def test_given_a_queue_when_control_restarts_then_it_goes_on_where_it_was(
    broker: EmbeddedBroker, database_url: str, make_worker: MakeWorker, make_client: MakeClient
) -> None:
    alice, bob = make_client("alice"), make_client("bob")
    make_worker("w1", "a", "b")
    running = Control(broker.address("main"), Database(database_url), PATIENT)
    running.start(Deadline.after(20))
    alice.wait_available(2)
    held = bob.reserve(count=1)
    first = alice.reserve(count=2, wait=600)
    second = bob.reserve(count=1, wait=600, client=bob.id)
    running.stop(Deadline.after(5))

    running = Control(broker.address("main"), Database(database_url), PATIENT)
    running.start(Deadline.after(20))
    waiting = {each.id: each.queue.position for each in alice.list() if each.queue}
    bob.end(held.id)
    given = alice.wait_document(first.id, lambda d: d.state is ReservationState.ACTIVE)
    last = alice.wait_document(second.id, lambda d: d.queue is not None and d.queue.position == 1)
    alice.end(first.id)
    alice.wait_document(second.id, lambda d: d.state is ReservationState.ACTIVE)
    running.stop(Deadline.after(5))

    assert waiting == {first.id: 1, second.id: 2}
    assert [device.serial for device in given.devices] == ["a", "b"]
    assert last.queue is not None
    assert last.queue.reason == "1 wanted, 0 free (2 in use)"
    assert alice.count("initialized") == 2


def test_given_an_administrator_then_what_is_ordered_reaches_the_worker_and_holders(
    control: Control, make_worker: MakeWorker, make_client: MakeClient, alice: FakeClient
) -> None:
    worker, root = make_worker("w1", "a", "b"), make_client("root")
    drained: list[str | None] = []

    def on_drained(incoming: Incoming) -> None:
        with worker.changed:
            drained.append(decode(WorkerDesired, incoming.payload).draining)
            worker.changed.notify_all()

    worker.bus.subscribe(WORKER_DESIRED, on_drained, worker="w1")
    alice.wait_available(2)
    made = alice.reserve(serials=["a"], replace=True)

    order(root, "reboot", DevicesChanged, serials=["b"])
    worker.wait_desired("b", lambda desired: desired.reboot == 1)
    order(root, "quarantine", DevicesChanged, serials=["a"], reason="smells")
    worker.wait_desired("a", lambda desired: desired.quarantined == "smells")
    replaced = alice.wait_event("device_replaced", serial="a")
    alice.wait_event("initialized", serial="b")
    changed = order(root, "drain", WorkerChanged, worker="w1")
    ended = order(root, "end", ReservationReply, reservation=made.id)
    told = alice.wait_event("reservation_ended")
    entries = alice.ask("history", HistoryReply, user="alice").entries

    assert replaced.data["by"] == "b"
    assert changed == WorkerChanged(worker="w1", reservations=[made.id])
    assert isinstance(ended, ReservationReply)
    assert ended.reservation.reason is EndReason.ENDED_BY_ADMIN
    assert told.data["reason"] == "ended_by_admin"
    assert (entries[0].event, entries[0].actor) == ("ended", "root")
    with worker.changed:
        assert worker.changed.wait_for(lambda: drained[-1:] == ["drained by root"], timeout=20)


def test_given_a_worker_that_is_gone_when_its_board_is_forgotten_then_no_topic_of_it_is_kept(
    control: Control, make_worker: MakeWorker, make_client: MakeClient, alice: FakeClient
) -> None:
    worker, root = make_worker("w1", "a"), make_client("root")
    make_worker("w2", "z")
    alice.wait_available(2)
    worker.stop()
    worker.killed = True
    alice.wait_available(1)

    order(root, "forget", DevicesChanged, serials=["a"])
    kept: set[str] = set()

    def on_kept(incoming: Incoming) -> None:
        kept.add(incoming.ids["serial"])

    late = make_client("root")
    subscriptions = [late.bus.subscribe(topic, on_kept) for topic in (DEVICE, DESIRED)]
    for subscription in subscriptions:
        wait_for(subscription.acknowledged, Deadline.after(20), "the broker")
    # What the broker keeps comes before what is answered later.
    known = late.devices().devices

    assert [device.report.serial for device in known] == ["z"]
    assert kept == {"z"}
