"""Reservations from request to release, on a real broker."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING

import pytest

from icebus.broker.embedded import EmbeddedBroker
from icebus.bus import wait_for
from icebus.control.server import Control
from icebus.control.settings import Settings
from icebus.schemas.calls import Request
from icebus.schemas.components import Presence, WorkerPhase
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    NotEnoughDevices,
    ReservationEnded,
    UnknownOperation,
)
from icebus.schemas.message import now
from icebus.schemas.operations.reservations import (
    EndReason,
    HoldState,
    Reservation,
    ReservationReply,
    ReservationState,
)
from icebus.schemas.topics import OPERATION, REPLY

if TYPE_CHECKING:
    from tests.control.conftest import MakeClient, MakeWorker
    from tests.control.fakes import FakeClient


def is_active(document: Reservation) -> bool:
    return document.state is ReservationState.ACTIVE


def test_given_ready_devices_when_reserved_then_they_serve_until_released(
    control: Control, make_worker: MakeWorker, alice: FakeClient
) -> None:
    worker = make_worker("w1", "a", "b", "c")
    alice.wait_available(3)

    made = alice.reserve(count=2, args={"window": 1.0})
    serials = [device.serial for device in made.devices]
    for serial in serials:
        event = alice.wait_event("initialized", reservation=made.id, serial=serial)
        assert event.data == {"reservation": made.id, "serial": serial}
    active = alice.wait_document(made.id, is_active)

    assert made.state is ReservationState.PREPARING
    assert {device.state for device in active.devices} == {HoldState.SERVING}
    assert all(worker.desired[serial].args == {"window": 1.0} for serial in serials)
    assert alice.available().available == 1

    ended = alice.end(made.id)
    alice.wait_event("reservation_ended", reservation=made.id, serial="all")
    alice.wait_cleared(made.id)
    alice.wait_available(3)

    assert (ended.state, ended.reason) == (ReservationState.ENDED, EndReason.RELEASED)
    assert all(device.state is HoldState.RELEASED for device in ended.devices)
    assert alice.list() == []
    last = alice.documents[made.id][-2]
    assert last is not None
    assert last.reason is EndReason.RELEASED


def test_given_events_of_a_reservation_then_their_sequence_has_no_gap(
    control: Control, make_worker: MakeWorker, alice: FakeClient
) -> None:
    make_worker("w1", "a", "b")
    alice.wait_available(2)

    made = alice.reserve(count=2)
    alice.wait_event("initialized", number=2)
    alice.end(made.id)
    alice.wait_event("reservation_ended")

    assert [event.sequence for _, event in alice.events] == [0, 1, 2]


def test_given_too_few_devices_when_reserved_then_refused_and_none_is_held(
    control: Control, make_worker: MakeWorker, alice: FakeClient
) -> None:
    make_worker("w1", "a", "b")
    alice.wait_available(2)

    with pytest.raises(NotEnoughDevices) as refused:
        alice.reserve(count=3)

    assert refused.value.details["available"] == 2
    assert alice.available().available == 2


def test_when_a_request_is_sent_again_then_it_is_done_once(
    control: Control, make_worker: MakeWorker, alice: FakeClient
) -> None:
    make_worker("w1", "a", "b")
    alice.wait_available(2)
    args = {"kind": "pulsecount", "count": 1}

    first = alice.ask("reserve", ReservationReply, "one", **args)
    again = alice.ask("reserve", ReservationReply, "one", **args)

    assert again == first
    assert len(alice.list()) == 1
    with pytest.raises(Conflict):
        alice.ask("reserve", ReservationReply, "one", kind="pulsecount", count=2)
    with pytest.raises(Conflict):
        alice.ask("end", ReservationReply, "one", reservation=first.reservation.id)


def test_given_a_reservation_when_somebody_else_ends_it_then_forbidden(
    control: Control, make_worker: MakeWorker, make_client: MakeClient, alice: FakeClient
) -> None:
    make_worker("w1", "a")
    bob = make_client("bob")
    alice.wait_available(1)
    made = alice.reserve(count=1)

    with pytest.raises(Forbidden):
        bob.end(made.id)
    with pytest.raises(Forbidden):
        bob.extend(made.id, 5)

    assert [each.id for each in bob.list()] == [made.id]


def test_when_its_time_is_over_then_the_holder_is_warned_and_the_devices_are_free(
    control: Control, make_worker: MakeWorker, alice: FakeClient
) -> None:
    make_worker("w1", "a")
    alice.wait_available(1)

    made = alice.reserve(count=1, duration=1.5)
    soon = alice.wait_event("reservation_ending_soon")
    ended = alice.wait_event("reservation_ended")
    late = (ended.at - made.until).total_seconds()
    alice.wait_available(1)

    assert soon.data["reservation"] == made.id
    assert (made.until - soon.at).total_seconds() <= 1.0
    assert ended.data["reason"] == "expired"
    assert late >= 0
    with pytest.raises(ReservationEnded, match="expired"):
        alice.extend(made.id, 10)


def test_when_extended_then_the_worker_and_the_document_have_the_new_end(
    control: Control, make_worker: MakeWorker, alice: FakeClient
) -> None:
    worker = make_worker("w1", "a")
    alice.wait_available(1)
    made = alice.reserve(count=1, duration=100)

    reply = alice.extend(made.id, 50)
    capped = alice.extend(made.id, 1e9)
    refused = alice.extend(made.id, 0.001)

    assert (reply.after - made.until).total_seconds() == 50
    assert 7190 < (capped.after - now()).total_seconds() <= 7200
    assert refused.after >= refused.before
    alice.wait_document(made.id, lambda d: d.until == refused.after)
    worker.wait_desired("a", lambda d: d.until == refused.after)


def test_given_workers_and_devices_then_all_are_listed_with_their_holders(
    control: Control, make_worker: MakeWorker, alice: FakeClient
) -> None:
    make_worker("w1", "a", "b")
    make_worker("w2", "z")
    alice.wait_available(3)
    made = alice.reserve(serials=["z"])
    alice.wait_document(made.id, is_active)

    found = {device.report.serial: device for device in alice.devices().devices}

    assert {serial: device.worker for serial, device in found.items()} == {
        "a": "w1",
        "b": "w1",
        "z": "w2",
    }
    assert all(device.fresh for device in found.values())
    assert (found["z"].reservation, found["z"].user) == (made.id, "alice")
    assert found["z"].report.state is DeviceState.SERVING
    assert found["a"].user is None


@pytest.mark.parametrize("control_settings", [Settings(interval=1.0, grace=5.0)])
def test_given_a_draining_worker_then_it_keeps_its_reservations_and_gets_no_new_ones(
    control: Control, make_worker: MakeWorker, alice: FakeClient
) -> None:
    worker = make_worker("w1", "a", "b")
    alice.wait_available(2)
    made = alice.reserve(serials=["a"])
    alice.wait_document(made.id, is_active)

    worker.publish_state(WorkerPhase.DRAINING)
    alice.wait_available(0)

    with pytest.raises(NotEnoughDevices, match="on workers that drain"):
        alice.reserve(count=1)
    assert alice.count("device_failed") == 0


def test_given_a_held_device_that_breaks_then_the_holder_is_told_once_and_again_when_repaired(
    control: Control, make_worker: MakeWorker, alice: FakeClient
) -> None:
    worker = make_worker("w1", "a", "b")
    alice.wait_available(2)
    made = alice.reserve(count=2)
    alice.wait_document(made.id, is_active)

    worker.report("a", DeviceState.BROKEN)
    failed = alice.wait_event("device_failed", serial="a")
    worker.report("a", DeviceState.QUARANTINED)
    worker.report("a", DeviceState.PREPARING)
    worker.report("a", DeviceState.SERVING)
    alice.wait_event("initialized", number=2, serial="a")

    assert failed.data["code"] == "device_failed"
    assert alice.count("device_failed") == 1
    assert [each.state for each in alice.list()] == [ReservationState.ACTIVE]


def test_given_a_device_unplugged_then_its_holder_is_told_and_others_cannot_have_it(
    control: Control, make_worker: MakeWorker, alice: FakeClient
) -> None:
    worker = make_worker("w1", "a", "b")
    alice.wait_available(2)
    made = alice.reserve(serials=["a"])
    alice.wait_document(made.id, is_active)

    del worker.reports["a"]
    del worker.reports["b"]
    worker.publish_state(WorkerPhase.READY)
    failed = alice.wait_event("device_failed", serial="a")
    alice.wait_available(0)

    assert failed.data["code"] == "device_unplugged"
    states = {d.report.serial: d.report.state for d in alice.devices().devices}
    assert states == {"a": DeviceState.ABSENT, "b": DeviceState.ABSENT}


def test_given_a_detached_reservation_when_its_client_leaves_then_it_stays(
    control: Control, make_worker: MakeWorker, make_client: MakeClient, alice: FakeClient
) -> None:
    make_worker("w1", "a", "b")
    other = make_client("alice")
    alice.wait_available(2)
    detached = other.reserve(count=1)
    attached = other.reserve(count=1, client=other.id)

    other.say(Presence.OFFLINE)
    ended = alice.wait_event("reservation_ended", reservation=attached.id)

    assert ended.data["reason"] == "released"
    assert [each.id for each in alice.list()] == [detached.id]


def test_given_an_attached_client_that_is_lost_then_its_reservation_ends_after_the_grace(
    control: Control, make_worker: MakeWorker, make_client: MakeClient, alice: FakeClient
) -> None:
    make_worker("w1", "a")
    other = make_client("alice")
    alice.wait_available(1)
    made = other.reserve(count=1, client=other.id)

    lost_at = now()
    other.say(Presence.LOST)
    ended = alice.wait_event("reservation_ended", reservation=made.id)

    assert ended.data["reason"] == "client_lost"
    assert (ended.at - lost_at).total_seconds() >= 0.6
    alice.wait_available(1)


def test_when_the_operation_or_its_args_are_wrong_then_the_answer_says_what_is_right(
    control: Control, alice: FakeClient
) -> None:
    with pytest.raises(UnknownOperation, match="reserve"):
        alice.ask("brew", ReservationReply)
    with pytest.raises(InvalidRequest, match="colour"):
        alice.ask("list", ReservationReply, colour="red")


def test_when_an_answer_is_wanted_elsewhere_then_nothing_is_done(
    control: Control,
    broker: EmbeddedBroker,
    make_worker: MakeWorker,
    make_client: MakeClient,
    alice: FakeClient,
) -> None:
    make_worker("w1", "a")
    bob = make_client("bob")
    alice.wait_available(1)
    heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    alice.bus.subscribe(REPLY, lambda incoming: heard.put(incoming.payload), user="alice")

    for target in (
        REPLY(user="alice", client=alice.id, sender="control"),
        REPLY(user="bob", client=bob.id, sender="w1"),
        "control/heartbeat",
    ):
        request = Request(args={"kind": "pulsecount", "count": 1})
        sent = bob.bus.publish(
            OPERATION(user="bob", operation="reserve"),
            request,
            deadline=Deadline.after(10),
            response_topic=target,
        )
        wait_for(sent, Deadline.after(5), "the broker")

    # Bob's own question is answered after those, so by then they have been looked at.
    assert bob.list() == []
    assert alice.list() == []
    assert b'"reservations"' in heard.get(timeout=5)
