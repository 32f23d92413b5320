"""The queue, what is done with a part of a reservation, and limits, on a real database."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from icebus.control.decide.limits import Limit, Limits
from icebus.control.operations import absent_clients, republishing
from icebus.control.settings import Settings
from icebus.control.store.outbox import CLEAR
from icebus.schemas.components import ClientState, Presence
from icebus.schemas.devices import Desired, DeviceState
from icebus.schemas.errors import (
    Conflict,
    DeviceNotHeld,
    DeviceUnavailable,
    Forbidden,
    InvalidRequest,
    LimitExceeded,
    NotEnoughDevices,
    ReservationQueued,
)
from icebus.schemas.liveness import RETURN_TIME
from icebus.schemas.reservations import EndReason, HoldState, Reservation, ReservationState
from icebus.schemas.topics import RESERVATION

if TYPE_CHECKING:
    from tests.control.harness import Harness

QUEUED, PREPARING, ACTIVE = (
    ReservationState.QUEUED,
    ReservationState.PREPARING,
    ReservationState.ACTIVE,
)


def ends(harness: Harness) -> list[EndReason | None]:
    return [each.reason for each in harness.documents() if each.state is ReservationState.ENDED]


def limited(**of_alice: int) -> Settings:
    return Settings(max_duration=7200, limits=Limits(users={"alice": Limit(**of_alice)}))


def test_given_labels_when_selected_then_only_devices_that_have_them_are_given(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")
    harness.report("w1", "b", DeviceState.READY, labels={"rack": "b"}, chip="rp2350")

    listed = harness.ask("x", "devices")["devices"]
    known = {each["report"]["serial"]: each["labels"] for each in listed}
    there = harness.ask("x", "available", kind="pulsecount", selector="rack")["serials"]
    made = harness.reserve(count=1, selector="chip=rp2350,worker!=w2")

    assert known["b"] == {
        "rack": "b",
        "chip": "rp2350",
        "worker": "w1",
        "serial": "b",
        "virtual": "false",
        "firmware": "pulse_count",
    }
    assert there == [device.serial for device in made.devices] == ["b"]
    with pytest.raises(NotEnoughDevices, match=r"with chip=rp2350 wanted.*1 with other labels"):
        harness.reserve(count=1, selector="chip=rp2350")
    with pytest.raises(InvalidRequest, match="⟨here⟩"):
        harness.reserve(count=1, selector="chip=")


def test_given_devices_in_use_when_asked_to_wait_then_queued_until_they_are_free(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")
    holding = harness.reserve("bob", count=1, duration=600)

    waiting = harness.reserve(count=2, duration=60, wait=1000, priority=2, client=None)
    published = harness.documents()
    harness.now += timedelta(seconds=5)
    harness.ask("bob", "end", reservation=holding.id)
    still = harness.current(waiting)
    harness.report_ready("w1", "a", "b")
    served = harness.current(waiting)

    assert (waiting.state, waiting.devices, waiting.priority) == (QUEUED, [], 2)
    assert waiting.until == waiting.created + timedelta(seconds=1000)
    assert waiting.queue is not None
    assert (waiting.queue.position, waiting.queue.reason) == (1, "2 wanted, 1 free (1 in use)")
    assert waiting.queue.estimate == holding.until
    assert published == [waiting]
    assert still.state is QUEUED
    assert (served.state, served.queue) == (PREPARING, None)
    assert [device.serial for device in served.devices] == ["a", "b"]
    assert served.until == harness.now + timedelta(seconds=60)
    assert harness.history(reservation=waiting.id) == [
        ("queued", "alice", None),
        ("reserved", "alice", "a"),
        ("reserved", "alice", "b"),
    ]


def test_given_somebody_who_waits_then_what_is_kept_is_refused_and_not_available(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")
    harness.reserve("bob", serials=["a"])
    harness.reserve("carol", count=2, wait=100)

    with pytest.raises(NotEnoughDevices, match=r"1 kept for those who wait before\).*--wait"):
        harness.reserve(count=1)
    with pytest.raises(DeviceUnavailable, match="b is kept for those who wait before you"):
        harness.reserve(serials=["b"])
    assert harness.ask("alice", "available", kind="pulsecount")["serials"] == []
    urgent = harness.reserve(count=1, priority=1)
    assert urgent.state is PREPARING


def test_given_two_who_wait_then_positions_are_published_when_they_change_and_not_otherwise(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    holding = harness.reserve("bob", count=1)
    first = harness.reserve(count=1, wait=100)
    second = harness.reserve("carol", serials=["a"], wait=100)

    harness.ask("bob", "extend", reservation=holding.id, duration=60)
    unchanged = [each.id for each in harness.documents()]
    later = harness.current(second).queue
    harness.ask("alice", "end", reservation=first.id)
    moved = {each.id: each for each in harness.documents()}

    assert second.queue is not None
    assert (second.queue.position, second.queue.reason) == (2, "a is held by bob")
    assert unchanged == [holding.id]
    assert later is not None
    assert second.queue.estimate is not None
    assert later.estimate == second.queue.estimate + timedelta(seconds=60)
    assert moved[first.id].reason is EndReason.RELEASED
    queue = moved[second.id].queue
    assert queue is not None
    assert queue.position == 1


def test_given_one_who_waits_when_the_wait_ends_then_not_in_time_and_the_next_moves_up(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")
    harness.reserve("bob", serials=["a"])
    large = harness.reserve(count=2, wait=60)
    small = harness.reserve("carol", count=1, wait=600)

    harness.wait(seconds=60)

    assert ends(harness) == [EndReason.NOT_IN_TIME]
    assert harness.events() == ["reservation_ended"]
    assert [each.id for each in harness.documents() if each.state is PREPARING] == [small.id]
    assert large.id not in [each.id for each in harness.live()]


def test_given_a_queued_one_then_only_ending_it_transferring_and_attaching_make_sense(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    harness.reserve("bob", count=1)
    waiting = harness.reserve(count=1, wait=60)

    with pytest.raises(ReservationQueued, match="waits: 1 wanted, 0 free"):
        harness.ask("alice", "extend", reservation=waiting.id, duration=5)
    with pytest.raises(ReservationQueued):
        harness.ask("alice", "end", reservation=waiting.id, serials=["a"])
    harness.ask("alice", "transfer", reservation=waiting.id, user="carol")
    harness.ask("carol", "attach", reservation=waiting.id, client="c")
    harness.wait(seconds=10)

    assert ends(harness) == [EndReason.CLIENT_LOST]


def test_given_an_attached_client_that_waits_when_it_leaves_then_its_place_is_free(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    harness.clients.on_state(
        "alice", "c", ClientState(state=Presence.ONLINE, session="s"), harness.at
    )
    harness.reserve("bob", count=1)
    harness.reserve(count=1, wait=60, client="c")

    harness.run(
        lambda transaction: absent_clients.on_presence(transaction, "alice", "c", Presence.OFFLINE)
    )

    assert ends(harness) == [EndReason.RELEASED]
    assert [each.user for each in harness.live()] == ["bob"]


def test_given_a_worker_that_comes_back_then_those_who_wait_get_its_devices(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    harness.report("w1", "a", DeviceState.ABSENT)
    waiting = harness.reserve(count=1, wait=60)

    harness.report("w1", "a", DeviceState.READY)

    assert waiting.queue is not None
    assert waiting.queue.reason == "1 wanted, 0 free (1 absent)"
    assert waiting.queue.estimate is None
    assert harness.current(waiting).state is PREPARING


# --- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "asked", "said"),
    [
        ({"devices": 1}, {"count": 2}, "wants 2 devices, but may hold 1"),
        ({"devices": 1}, {"serials": ["a", "b"], "wait": 9}, "wants 2 devices, but may hold 1"),
        ({"priority": 0}, {"count": 1, "priority": 1}, "priority 0 at most, not 1"),
        ({"reservations": 0}, {"count": 1, "wait": 9}, "has 0 reservations of 0 allowed"),
    ],
)
def test_when_more_is_wanted_than_a_user_may_have_then_the_refusal_has_the_numbers(
    harness: Harness, limits: dict[str, int], asked: dict[str, Any], said: str
) -> None:
    harness.worker("w1", "a", "b")
    harness.settings = limited(**limits)

    with pytest.raises(LimitExceeded, match=said) as refused:
        harness.reserve(**asked)

    assert {"limit", "wanted"} <= refused.value.details.keys()
    assert harness.reserve("bob", count=2).state is PREPARING


def test_given_a_user_at_the_limit_then_he_waits_with_that_reason_until_he_holds_less(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b", "c")
    harness.settings = limited(devices=2)
    first = harness.reserve(count=2)

    with pytest.raises(LimitExceeded, match="holds 2 devices and wants 1 more, but may hold 2"):
        harness.reserve(count=1)
    waiting = harness.reserve(count=1, wait=60)
    harness.ask("alice", "end", reservation=first.id, serials=["a"])

    assert waiting.queue is not None
    assert waiting.queue.reason == "alice holds 2 devices and wants 1 more, but may hold 2"
    assert harness.current(waiting).state is PREPARING


def test_given_a_receiver_at_the_limit_then_nothing_is_transferred(harness: Harness) -> None:
    harness.worker("w1", "a", "b")
    harness.settings = limited(devices=1)
    harness.reserve("alice", count=1)
    made = harness.reserve("bob", count=1)

    with pytest.raises(LimitExceeded, match="alice holds 1 device and may hold 1"):
        harness.ask("bob", "transfer", reservation=made.id, user="alice")
    assert harness.current(made).user == "bob"


# --- parts of a reservation, other holders --------------------------------------------------------


def test_given_some_devices_released_then_the_others_stay_and_without_the_last_it_ends(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b", "c")
    made = harness.reserve(count=3)
    for serial in "bc":
        harness.report("w1", serial, DeviceState.SERVING, reservation=made.id)

    reply = harness.ask("alice", "end", reservation=made.id, serials=["a"])
    part = Reservation.model_validate(reply["reservation"])
    wanted = harness.published_desired()
    with pytest.raises(DeviceNotHeld, match="does not hold a"):
        harness.ask("alice", "end", reservation=made.id, serials=["a", "b"])
    harness.ask("alice", "end", reservation=made.id, serials=["c", "b"])

    # What it still waited for was the device that is gone.
    assert part.state is ACTIVE
    assert [device.state for device in part.devices] == [
        HoldState.RELEASED,
        HoldState.SERVING,
        HoldState.SERVING,
    ]
    assert wanted == {"a": None}
    assert ends(harness) == [EndReason.RELEASED]
    assert [serial for event, _, serial in harness.history() if event == "released"] == [
        "a",
        "b",
        "c",
    ]


def test_when_transferred_then_its_new_user_alone_has_it_and_hears_of_it_anew(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    made = harness.reserve(count=1, client="c")
    harness.report_serving("w1", made)

    reply = harness.ask("alice", "transfer", reservation=made.id, user="bob")
    moved = Reservation.model_validate(reply["reservation"])
    told = [each.topic for each in harness.sent if "/event/" in each.topic]
    [desired] = [each.message for each in harness.sent if isinstance(each.message, Desired)]
    harness.report_serving("w1", made)
    heard = [each.topic for each in harness.sent if "/event/" in each.topic]

    assert (moved.user, moved.client, moved.state) == ("bob", None, ACTIVE)
    assert told == [f"user/alice/reservation/{made.id}/event/control/all/transferred"]
    assert (desired.user, desired.generation) == ("bob", 2)
    assert heard == [f"user/bob/reservation/{made.id}/event/control/a/initialized"]
    with pytest.raises(Forbidden):
        harness.ask("alice", "end", reservation=made.id)
    harness.wait(seconds=60)
    assert [each.user for each in harness.live()] == ["bob"]
    assert ("transferred", "alice", None) in harness.history(user="bob")


def test_when_attached_to_another_client_then_it_depends_on_that_one_alone(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    for client in ("old", "new"):
        online = ClientState(state=Presence.ONLINE, session="s")
        harness.clients.on_state("alice", client, online, harness.at)
    made = harness.reserve(count=1, client="old")

    harness.ask("alice", "attach", reservation=made.id, client="new")
    harness.run(
        lambda transaction: absent_clients.on_presence(
            transaction, "alice", "old", Presence.OFFLINE
        )
    )
    kept = [each.client for each in harness.live()]
    detached = harness.ask("alice", "attach", reservation=made.id, client=None)
    harness.run(
        lambda transaction: absent_clients.on_presence(
            transaction, "alice", "new", Presence.OFFLINE
        )
    )

    assert kept == ["new"]
    assert detached["reservation"]["client"] is None
    assert [each.id for each in harness.live()] == [made.id]
    assert [event for event, _, _ in harness.history()][-2:] == ["attached", "attached"]


@pytest.mark.parametrize("wanted", [{"count": 2}, {"serials": ["b"]}])
def test_given_devices_that_are_being_made_ready_when_refused_then_it_says_they_come_soon(
    harness: Harness, wanted: dict[str, Any]
) -> None:
    harness.worker("w1", "a", "b")
    harness.report("w1", "b", DeviceState.RELEASING)
    with pytest.raises((NotEnoughDevices, DeviceUnavailable)) as releasing:
        harness.reserve(**wanted)
    harness.report("w1", "b", DeviceState.BROKEN)
    with pytest.raises((NotEnoughDevices, DeviceUnavailable)) as broken:
        harness.reserve(**wanted)

    assert (releasing.value.details["soon"], broken.value.details["soon"]) == (True, False)


# --- replacing what fails -------------------------------------------------------------------------


def test_given_a_device_that_fails_then_another_takes_its_place_at_once(harness: Harness) -> None:
    harness.worker("w1", "a", "b", "c")
    harness.report("w1", "c", DeviceState.READY, labels={"rack": "z"})
    made = harness.reserve(count=1, replace=True, selector="!rack")
    harness.report_serving("w1", made)

    harness.report("w1", "a", DeviceState.BROKEN, reason="no answer")
    told, wanted = harness.events(), harness.published_desired()
    [replaced] = harness.documents()
    harness.report("w1", "b", DeviceState.SERVING, reservation=made.id)

    assert told == ["device_failed", "device_replaced"]
    assert wanted == {"a": None, "b": made.id}
    assert {device.serial: device.state for device in replaced.devices} == {
        "a": HoldState.RELEASED,
        "b": HoldState.PREPARING,
    }
    assert harness.events() == ["initialized"]
    assert harness.history()[-4:] == [
        ("device_failed", "control", "a"),
        ("released", "control", "a"),
        ("reserved", "control", "b"),
        ("device_replaced", "control", "a"),
    ]


def test_given_no_other_device_then_a_failed_one_is_replaced_as_soon_as_there_is_one(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")
    other = harness.reserve("bob", serials=["b"])
    made = harness.reserve(serials=["a"], replace=True)
    waiting = harness.reserve("carol", count=1, wait=60)

    harness.report("w1", "a", DeviceState.BROKEN)
    failed = [device.state for device in harness.current(made).devices]
    harness.ask("bob", "end", reservation=other.id)
    harness.report_ready("w1", "b")
    replaced = {device.serial: device.state for device in harness.current(made).devices}
    harness.report("w1", "b", DeviceState.BROKEN)
    harness.report_ready("w1", "a")
    again = {device.serial: device.state for device in harness.current(made).devices}

    assert failed == [HoldState.FAILED]
    assert replaced == {"a": HoldState.RELEASED, "b": HoldState.PREPARING}
    assert again == {"a": HoldState.PREPARING, "b": HoldState.RELEASED}
    assert harness.current(waiting).state is QUEUED


def test_given_a_reservation_that_does_not_want_it_then_nothing_is_replaced(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")
    made = harness.reserve(serials=["a"])

    harness.report("w1", "a", DeviceState.BROKEN)

    assert [device.serial for device in harness.current(made).devices] == ["a"]


@pytest.fixture
def made(harness: Harness) -> Reservation:
    """A device of w1 that serves and may be replaced by one of w2."""
    harness.worker("w1", "a")
    harness.worker("w2", "b")
    reservation = harness.reserve(serials=["a"], replace=True)
    harness.report_serving("w1", reservation)
    return reservation


def test_given_a_worker_that_reconnects_then_its_devices_are_not_replaced(
    harness: Harness, made: Reservation
) -> None:
    harness.lose("w1")
    blinked = {device.serial: device.state for device in harness.current(made).devices}
    harness.introduce("w1", "a")
    harness.run(republishing.repeat_desired)
    harness.report_serving("w1", made)

    assert blinked == {"a": HoldState.FAILED}
    assert {device.serial: device.state for device in harness.current(made).devices} == {
        "a": HoldState.SERVING
    }


def test_given_a_worker_that_does_not_return_then_its_devices_are_replaced(
    harness: Harness, made: Reservation
) -> None:
    harness.lose("w1")
    harness.at += RETURN_TIME
    harness.beat("w2")
    harness.run(republishing.repeat_desired)

    assert {device.serial: device.state for device in harness.current(made).devices} == {
        "a": HoldState.RELEASED,
        "b": HoldState.PREPARING,
    }


# --- documents ------------------------------------------------------------------------------------


def test_given_changes_then_the_newer_of_two_documents_has_the_higher_revision(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    told = [harness.reserve(count=1, duration=60)]
    harness.report_serving("w1", told[0])
    told += harness.documents()
    reply = harness.ask("alice", "extend", reservation=told[0].id, duration=60)
    told.append(Reservation.model_validate(reply["reservation"]))
    harness.ask("alice", "end", reservation=told[0].id)
    told += harness.documents()

    assert [each.state for each in told] == [PREPARING, ACTIVE, ACTIVE, ReservationState.ENDED]
    assert all(old.revision < new.revision for old, new in itertools.pairwise(told))


def test_given_an_end_that_nobody_was_told_of_when_its_document_is_cleared_then_it_says_why(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    made = harness.reserve(count=1)
    harness.ask("alice", "end", reservation=made.id)

    harness.run(
        lambda transaction: republishing.clear_documents(transaction, [made.id, "unheard-of"])
    )

    assert ends(harness) == [EndReason.RELEASED]
    assert [each.topic for each in harness.sent if each.message == CLEAR] == [
        RESERVATION(reservation=made.id),
        RESERVATION(reservation="unheard-of"),
    ]


# --- requests that were not answered --------------------------------------------------------------


def test_given_a_reserve_that_was_carried_out_when_withdrawn_then_it_ends(harness: Harness) -> None:
    harness.worker("w1", "a")
    made = harness.reserve(name="r1", count=1)

    withdrawn = harness.ask("alice", "withdraw", request="r1")["reservation"]
    again = harness.ask("alice", "withdraw", request="r1")["reservation"]

    assert (withdrawn["id"], withdrawn["state"]) == (made.id, "ended")
    assert again is None
    assert harness.live() == []
    assert harness.published_desired() == {}


def test_given_a_reserve_that_comes_after_it_was_withdrawn_then_nothing_is_given(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")

    assert harness.ask("alice", "withdraw", request="r1")["reservation"] is None
    with pytest.raises(Conflict):
        harness.reserve(name="r1", count=1)
    others = harness.reserve("bob", name="r1", count=1)

    assert [each.id for each in harness.live()] == [others.id]


def test_given_what_is_not_his_to_withdraw_then_it_stays(harness: Harness) -> None:
    harness.worker("w1", "a", "b")
    harness.reserve(name="r1", count=1)
    given = harness.reserve(name="r2", count=1)
    harness.ask("alice", "transfer", "t", reservation=given.id, user="bob")

    assert harness.ask("bob", "withdraw", request="r1")["reservation"] is None
    assert harness.ask("alice", "withdraw", request="r2")["reservation"] is None
    with pytest.raises(InvalidRequest, match="no `reserve`"):
        harness.ask("alice", "withdraw", request="t")

    assert len(harness.live()) == 2


def test_given_an_estimate_that_was_published_when_it_has_passed_then_a_later_one_is_published(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    holding = harness.reserve("bob", count=1, duration=600)
    asked = harness.reserve(count=1, wait=3600)
    harness.ask("bob", "extend", reservation=holding.id, duration=600)

    harness.now += timedelta(seconds=601)
    harness.run(republishing.repeat_desired)
    published = {each.id: each for each in harness.documents()}
    harness.run(republishing.repeat_desired)

    assert asked.queue is not None
    assert asked.queue.estimate is not None
    later = published[asked.id].queue
    assert later is not None
    assert later.estimate == asked.queue.estimate + timedelta(seconds=600)
    assert harness.documents() == []


def test_given_a_device_that_is_not_ready_then_no_estimate_in_the_past_is_told(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    harness.report("w1", "a", DeviceState.TESTING)
    asked = harness.reserve(count=1, wait=3600)

    assert asked.queue is not None
    assert asked.queue.estimate is None
