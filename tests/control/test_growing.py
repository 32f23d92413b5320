"""Reservations get more devices, on a real database."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from icebus.control.decide.limits import Limit, Limits
from icebus.control.settings import Settings
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import (
    DeviceUnavailable,
    Forbidden,
    InvalidRequest,
    LimitExceeded,
    NotEnoughDevices,
    ReservationEnded,
    ReservationQueued,
    UnknownDevice,
)
from icebus.schemas.operations.reservations import HoldState, Reservation, ReservationState

if TYPE_CHECKING:
    from tests.control.harness import Harness


def grow(harness: Harness, made: Reservation, user: str = "alice", **args: Any) -> Reservation:
    reply = harness.ask(user, "grow", reservation=made.id, **args)
    return Reservation.model_validate(reply["reservation"])


def held(reservation: Reservation) -> dict[str, HoldState]:
    return {device.serial: device.state for device in reservation.devices}


def test_given_free_devices_when_grown_then_the_reservation_has_them_until_its_old_end(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b", "c")
    made = harness.reserve(serials=["a"], duration=60)
    harness.report_serving("w1", made)

    grown = grow(harness, made, count=2)

    assert held(grown) == {
        "a": HoldState.SERVING,
        "b": HoldState.PREPARING,
        "c": HoldState.PREPARING,
    }
    assert (grown.id, grown.until, grown.state) == (made.id, made.until, ReservationState.ACTIVE)
    assert harness.published_desired() == {"b": made.id, "c": made.id}
    assert harness.history()[-2:] == [("reserved", "alice", "b"), ("reserved", "alice", "c")]
    harness.report("w1", "b", DeviceState.SERVING, reservation=made.id)
    assert harness.events() == ["initialized"]


def test_given_a_selector_when_grown_by_a_number_then_it_holds_for_the_new_ones_too(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b", "c")
    harness.report("w1", "a", DeviceState.READY, labels={"rack": "x"})
    harness.report("w1", "c", DeviceState.READY, labels={"rack": "x"})
    made = harness.reserve(count=1, selector="rack=x")

    assert set(held(grow(harness, made, count=1))) == {"a", "c"}
    with pytest.raises(NotEnoughDevices):
        grow(harness, made, count=1)
    assert set(held(grow(harness, made, count=1, selector="!rack"))) == {"a", "b", "c"}


def test_given_a_device_that_was_released_when_named_then_it_comes_back(harness: Harness) -> None:
    harness.worker("w1", "a", "b")
    made = harness.reserve(serials=["a", "b"])
    harness.ask("alice", "end", reservation=made.id, serials=["b"])
    harness.report_ready("w1", "b")

    assert held(grow(harness, made, serials=["b"])) == {
        "a": HoldState.PREPARING,
        "b": HoldState.PREPARING,
    }


def test_given_too_few_when_grown_then_nothing_changes(harness: Harness) -> None:
    harness.worker("w1", "a", "b", "c")
    harness.reserve("bob", serials=["c"])
    made = harness.reserve(serials=["a"])

    with pytest.raises(NotEnoughDevices, match=r"2 devices .* 1 available .*; grow by 1 or grow"):
        grow(harness, made, count=2)
    with pytest.raises(
        NotEnoughDevices, match=rf"Reservation {made.id} has a; in the way: c is held by bob until"
    ) as refused:
        grow(harness, made, count=2)
    assert refused.value.details["has"] == ["a"]
    assert set(refused.value.details["serials"]) == {"c"}
    with pytest.raises(DeviceUnavailable, match=r"c is held by bob.*; grow again when"):
        grow(harness, made, serials=["c"])
    with pytest.raises(DeviceUnavailable, match=f"a is in reservation {made.id} already"):
        grow(harness, made, serials=["a", "b"])

    assert set(held(harness.current(made))) == {"a"}


def test_given_somebody_who_waits_when_another_grows_then_nobody_is_passed(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")
    made = harness.reserve(serials=["a"])
    waiting = harness.reserve("bob", count=2, wait=60)
    harness.now += timedelta(seconds=1)

    with pytest.raises(NotEnoughDevices, match="grow when they are free"):
        grow(harness, made, count=1)
    harness.ask("alice", "end", reservation=made.id)
    harness.report_ready("w1", "a")

    assert set(held(harness.current(waiting))) == {"a", "b"}


def test_given_a_limit_when_grown_beyond_it_then_it_is_refused(harness: Harness) -> None:
    harness.settings = Settings(limits=Limits(default=Limit(devices=2)))
    harness.worker("w1", "a", "b", "c")
    made = harness.reserve(count=1)

    with pytest.raises(LimitExceeded):
        grow(harness, made, count=2)

    assert len(grow(harness, made, count=1).devices) == 2


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ({}, InvalidRequest),
        ({"count": 1, "serials": ["b"]}, InvalidRequest),
        ({"count": 0}, InvalidRequest),
        ({"serials": ["zz"]}, UnknownDevice),
        ({"count": 1, "selector": "a=="}, InvalidRequest),
        ({"count": 1, "user": "bob"}, Forbidden),
    ],
)
def test_given_a_request_that_makes_no_sense_or_is_not_his_then_it_is_refused(
    harness: Harness, args: dict[str, Any], error: type[Exception]
) -> None:
    harness.worker("w1", "a", "b")
    made = harness.reserve(serials=["a"])

    with pytest.raises(error):
        grow(harness, made, **args)


def test_given_a_reservation_that_waits_or_is_over_when_grown_then_it_is_refused(
    harness: Harness,
) -> None:
    harness.worker("w1", "a", "b")
    made = harness.reserve(serials=["a"])
    waiting = harness.reserve("bob", serials=["a"], wait=60)

    with pytest.raises(ReservationQueued):
        grow(harness, waiting, "bob", count=1)
    harness.ask("alice", "end", reservation=made.id)
    with pytest.raises(ReservationEnded):
        grow(harness, made, count=1)
