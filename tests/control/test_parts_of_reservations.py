"""Some devices of a reservation released, or all of it given to another user or client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from icebus.control.operations.due import absent_clients
from icebus.schemas.components import ClientState, Presence
from icebus.schemas.devices import Desired, DeviceState
from icebus.schemas.errors import DeviceNotHeld, DeviceUnavailable, Forbidden, NotEnoughDevices
from icebus.schemas.operations.reservations import (
    EndReason,
    HoldState,
    Reservation,
    ReservationState,
)

if TYPE_CHECKING:
    from tests.control.harness import Harness

QUEUED, PREPARING, ACTIVE = (
    ReservationState.QUEUED,
    ReservationState.PREPARING,
    ReservationState.ACTIVE,
)


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
    assert harness.end_reasons() == [EndReason.RELEASED]
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

    moved = harness.give(made, "alice", "bob")
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
    assert ("transferred", "bob", None) in harness.history(user="bob")


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
