"""Devices that fail are replaced where that was asked for, on a real database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from icebus.control.operations.reports import republishing
from icebus.schemas.devices import DeviceState
from icebus.schemas.liveness import RETURN_TIME
from icebus.schemas.operations.reservations import HoldState, Reservation, ReservationState

if TYPE_CHECKING:
    from tests.control.harness import Harness

QUEUED, PREPARING, ACTIVE = (
    ReservationState.QUEUED,
    ReservationState.PREPARING,
    ReservationState.ACTIVE,
)


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
