"""Holders have their boards restarted and keep them, on a real database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.control.test_administration import desired

from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import (
    DeviceNotHeld,
    Forbidden,
    ReservationEnded,
    ReservationQueued,
    UnknownDevice,
    UnknownReservation,
)
from icebus.schemas.operations.reservations import HoldState, Reservation, ReservationState

if TYPE_CHECKING:
    from tests.control.harness import Harness


def states(reservation: Reservation) -> dict[str, HoldState]:
    return {device.serial: device.state for device in reservation.devices}


def test_given_boards_that_serve_when_their_holder_reboots_one_then_it_is_prepared_until_it_serves(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")
    made = harness.reserve(count=2)
    harness.report_serving("w1", made)

    reply = harness.ask("alice", "reboot", reservation=made.id, serials=["a"])
    told = desired(harness)
    published = harness.documents()
    harness.report("w1", "a", DeviceState.SERVING, generation=1, reservation=made.id)
    overtaken = harness.current(made)
    harness.report("w1", "a", DeviceState.PREPARING, reason="reboot, as alice asked")
    during = harness.current(made)
    harness.report("w1", "a", DeviceState.SERVING, reservation=made.id)
    events = harness.events()
    after = harness.current(made)

    answered = Reservation.model_validate(reply["reservation"])
    assert published == [answered]
    assert states(answered) == {"a": HoldState.PREPARING, "b": HoldState.SERVING}
    assert [device.reason for device in answered.devices] == ["reboot, as alice asked", ""]
    assert list(told) == ["a"]
    assert (told["a"].reboot, told["a"].asked_by, told["a"].reservation) == (1, "alice", made.id)
    assert states(overtaken) == states(answered), "what the worker said before does not count"
    assert during.state is ReservationState.ACTIVE
    assert states(during) == states(answered)
    assert events == ["initialized"]
    assert states(after) == {"a": HoldState.SERVING, "b": HoldState.SERVING}
    assert ("rebooted", "alice", "a") in harness.history(reservation=made.id)


def test_given_a_request_that_is_repeated_then_the_board_is_rebooted_once(harness: Harness) -> None:
    harness.worker("w1", "a")
    made = harness.reserve(count=1)
    args = {"reservation": made.id}

    first = harness.ask("alice", "reboot", "one", **args)
    again = harness.ask("alice", "reboot", "one", **args)
    repeated = desired(harness)
    harness.ask("alice", "reboot", "two", **args)

    assert again == first
    assert repeated == {}
    assert desired(harness)["a"].reboot == 2


def test_given_no_boards_named_then_all_of_the_reservation_are_rebooted_and_no_other(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b", "c")
    made = harness.reserve(serials=["a", "b", "c"])
    harness.ask("alice", "end", reservation=made.id, serials=["c"])

    harness.ask("alice", "reboot", reservation=made.id)

    assert sorted(desired(harness)) == ["a", "b"]


def test_given_a_board_that_failed_when_rebooted_then_it_is_failed_until_it_serves(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    made = harness.reserve(count=1)
    harness.report("w1", "a", DeviceState.BROKEN, reason="no answer")

    harness.ask("alice", "reboot", reservation=made.id)
    told = desired(harness)["a"].reboot
    harness.report("w1", "a", DeviceState.PREPARING)
    during = harness.current(made)
    harness.report_serving("w1", made)

    assert told == 1
    assert states(during) == {"a": HoldState.FAILED}
    assert states(harness.current(made)) == {"a": HoldState.SERVING}


def test_given_what_is_not_ones_own_when_rebooted_then_that_is_refused_and_nothing_is_desired(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")
    made = harness.reserve(serials=["a"])
    waiting = harness.reserve("bob", count=2, wait=60)

    with pytest.raises(Forbidden, match="is alice's"):
        harness.ask("bob", "reboot", reservation=made.id)
    with pytest.raises(DeviceNotHeld, match="does not hold b"):
        harness.ask("alice", "reboot", reservation=made.id, serials=["a", "b"])
    with pytest.raises(ReservationQueued):
        harness.ask("bob", "reboot", reservation=waiting.id)
    with pytest.raises(UnknownReservation):
        harness.ask("bob", "reboot", reservation="ghost")
    harness.ask("alice", "end", reservation=made.id)
    with pytest.raises(ReservationEnded):
        harness.ask("alice", "reboot", reservation=made.id)

    assert harness.history(events=["rebooted"]) == []


def test_given_names_of_devices_in_another_case_when_asked_for_then_those_are_meant(
    harness: Harness,
) -> None:
    harness.worker("w1", "Ab", "aB", "C")
    made = harness.reserve(serials=["c"])
    harness.report_serving("w1", made)
    reply = harness.ask("alice", "reboot", reservation=made.id, serials=["c"])

    assert list(states(Reservation.model_validate(reply["reservation"]))) == ["C"]
    told = harness.ask("alice", "history", serial="c")["entries"]
    assert {entry["serial"] for entry in told} == {"C"}
    with pytest.raises(UnknownDevice, match="ab"):
        harness.reserve(serials=["ab"])
    assert harness.reserve(serials=["aB"]).devices[0].serial == "aB"
