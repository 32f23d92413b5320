"""Reservations from request to release, on a real broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icebus.control.server import Control
from icebus.schemas.reservations import EndReason, HoldState, ReservationState

if TYPE_CHECKING:
    from tests.control.conftest import FakeClient, MakeClient, MakeWorker


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
    active = alice.wait_document(made.id, lambda d: d.state is ReservationState.ACTIVE)

    assert made.state is ReservationState.PREPARING
    assert {device.state for device in active.devices} == {HoldState.SERVING}
    assert all(worker.desired[serial].args == {"window": 1.0} for serial in serials)
    assert alice.available().available == 1

    ended = alice.end(made.id)
    alice.wait_event("reservation_ended", reservation=made.id)
    alice.wait_cleared(made.id)
    alice.wait_available(3)

    assert (ended.state, ended.reason) == (ReservationState.ENDED, EndReason.RELEASED)
    assert all(device.state is HoldState.RELEASED for device in ended.devices)
    assert alice.list() == []
