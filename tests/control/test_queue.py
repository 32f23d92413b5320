"""The queue, limits, and requests that are withdrawn, on a real database."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from icebus.control.decide.limits import Limit, Limits
from icebus.control.operations.due import absent_clients
from icebus.control.operations.reports import republishing
from icebus.control.settings import Settings
from icebus.control.store.outbox import CLEAR
from icebus.schemas.components import ClientState, Presence
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import (
    Conflict,
    DeviceUnavailable,
    InvalidRequest,
    LimitExceeded,
    NotEnoughDevices,
    ReservationQueued,
)
from icebus.schemas.operations.reservations import EndReason, Reservation, ReservationState
from icebus.schemas.topics import RESERVATION

if TYPE_CHECKING:
    from tests.control.harness import Harness

QUEUED, PREPARING, ACTIVE = (
    ReservationState.QUEUED,
    ReservationState.PREPARING,
    ReservationState.ACTIVE,
)


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

    with pytest.raises(NotEnoughDevices, match=r"1 kept for those who wait before\).*in the queue"):
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

    assert harness.end_reasons() == [EndReason.NOT_IN_TIME]
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
    harness.give(waiting, "alice", "carol")
    harness.ask("carol", "attach", reservation=waiting.id, client="c")
    harness.wait(seconds=10)

    assert harness.end_reasons() == [EndReason.CLIENT_LOST]


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

    assert harness.end_reasons() == [EndReason.RELEASED]
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
        harness.give(made, "bob", "alice")
    assert harness.current(made).user == "bob"


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

    assert harness.end_reasons() == [EndReason.RELEASED]
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
    harness.ask("bob", "accept", reservation=given.id)

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


@pytest.mark.parametrize("field", ["duration", "wait"])
@pytest.mark.parametrize("seconds", [31 * 86_400, 1e17, 1e300])
def test_when_longer_is_asked_for_than_there_is_then_the_refusal_says_so_in_a_few_words(
    harness: Harness, field: str, seconds: float
) -> None:
    harness.worker("w1", "a")
    with pytest.raises(InvalidRequest, match="is longer than the") as refused:
        harness.ask("alice", "reserve", kind="pulsecount", count=1, **{field: seconds})
    assert len(refused.value.message) < 200
    assert "for less" in refused.value.message
