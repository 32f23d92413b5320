"""What follows from what is done to a reservation, one thing at a time, on a real database.

The state machine in `test_life` meets these too, but only when its examples happen to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from icebus.control.decide.limits import Limit, Limits
from icebus.control.operations.due import absent_clients
from icebus.control.settings import Settings
from icebus.schemas.components import ClientState, Presence
from icebus.schemas.devices import DeviceState
from icebus.schemas.operations.reservations import EndReason, ReservationState

if TYPE_CHECKING:
    from tests.control.harness import Harness

GRACE = 30.0


@pytest.fixture
def two(harness: Harness) -> Harness:
    """A harness with two devices, and at most two for each user."""
    limits = Limits(Limit(devices=2))
    harness.settings = Settings(max_duration=7200, grace=GRACE, limits=limits)
    harness.worker("w1", "a", "b")
    return harness


def see(harness: Harness, presence: Presence, session: str = "s") -> None:
    """What is heard of alice's client c."""
    state = ClientState(state=presence, session=session)
    assert harness.clients.on_state("alice", "c", state, harness.at) is not None
    harness.run(lambda transaction: absent_clients.on_presence(transaction, "alice", "c", presence))


def test_given_a_user_at_the_limit_when_something_is_released_then_his_next_is_served_at_once(
    two: Harness,
) -> None:
    two.worker("w2", "c")
    first = two.reserve(count=1)
    second = two.reserve(count=1)
    waiting = two.reserve(count=1, wait=100)
    assert waiting.state is ReservationState.QUEUED

    two.ask("alice", "end", reservation=first.id)

    assert two.current(waiting).state is ReservationState.PREPARING
    assert two.current(second).state is ReservationState.PREPARING


def test_given_a_user_at_the_limit_when_something_is_transferred_then_his_next_is_served_at_once(
    two: Harness,
) -> None:
    two.worker("w2", "c")
    held = two.reserve(count=2)
    waiting = two.reserve(count=1, wait=100)
    assert waiting.state is ReservationState.QUEUED

    two.give(held, "alice", "bob")

    assert two.current(waiting).state is ReservationState.PREPARING


@pytest.mark.parametrize("what", ["reserve", "transfer", "end"])
def test_when_another_is_to_have_a_device_then_its_worker_is_told_with_a_higher_generation(
    two: Harness, what: str
) -> None:
    held = two.reserve(serials=["a"]) if what != "reserve" else None
    before = two.generations.get("a", 0)

    if held is None:
        held = two.reserve(serials=["a"])
    elif what == "transfer":
        two.give(held, "alice", "bob")
    else:
        two.ask("alice", "end", reservation=held.id)

    assert two.published_desired() == {"a": None if what == "end" else held.id}
    assert two.generations["a"] > before


def test_given_an_end_that_is_far_away_when_extended_by_little_then_it_is_not_nearer(
    two: Harness,
) -> None:
    held = two.reserve(count=1, duration=7200)

    reply = two.ask("alice", "extend", reservation=held.id, duration=1)

    assert reply["after"] >= reply["before"]
    assert two.current(held).until >= held.until


def test_given_devices_that_failed_and_others_when_it_ends_then_none_is_held(two: Harness) -> None:
    held = two.reserve(count=2)
    two.report_serving("w1", held)
    two.report("w1", "a", DeviceState.BROKEN, reservation=held.id)

    two.ask("alice", "end", reservation=held.id)
    two.report_ready("w1", "a", "b")

    assert two.published_desired() == {}
    assert two.ask("alice", "available", kind="pulsecount")["serials"] == ["a", "b"]


def test_given_a_device_that_was_replaced_then_it_is_free_for_others_once_it_is_repaired(
    two: Harness,
) -> None:
    held = two.reserve(serials=["a"], replace=True)
    two.report_serving("w1", held)
    two.report("w1", "a", DeviceState.BROKEN, reservation=held.id)
    assert {each.serial for each in two.current(held).devices if each.state != "released"} == {"b"}

    two.report_ready("w1", "a")

    assert two.reserve("bob", serials=["a"]).state is ReservationState.PREPARING


def test_given_a_client_that_was_away_when_it_is_back_then_its_next_absence_has_the_whole_grace(
    two: Harness,
) -> None:
    see(two, Presence.ONLINE)
    held = two.reserve(count=1, client="c")
    see(two, Presence.LOST)
    two.wait(seconds=GRACE - 1)
    see(two, Presence.ONLINE, "again")
    two.wait(seconds=GRACE)

    see(two, Presence.LOST, "again")
    two.wait(seconds=GRACE - 1)
    kept = [each.id for each in two.live()]
    two.wait(seconds=1)

    assert kept == [held.id]
    assert [each.reason for each in two.documents()] == [EndReason.CLIENT_LOST]


def test_given_a_client_that_is_away_when_another_takes_over_then_the_grace_is_over(
    two: Harness,
) -> None:
    see(two, Presence.ONLINE)
    held = two.reserve(count=1, client="c", duration=7200)
    see(two, Presence.LOST)

    two.ask("alice", "attach", reservation=held.id, client=None)
    two.wait(seconds=GRACE)

    assert [each.id for each in two.live()] == [held.id]


def test_given_a_client_that_is_not_there_when_attached_to_then_the_grace_begins(
    two: Harness,
) -> None:
    held = two.reserve(count=1, duration=7200)

    two.ask("alice", "attach", reservation=held.id, client="c")
    two.wait(seconds=GRACE - 1)
    kept = [each.id for each in two.live()]
    two.wait(seconds=1)

    assert kept == [held.id]
    assert two.live() == []
