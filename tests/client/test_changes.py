"""What changes on a farm, told to programs as it changes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.client.test_log_lines import held
from tests.connections import published

from icebus.broker.embedded import EmbeddedBroker
from icebus.client import AsyncClient, Client
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.errors import ClientClosed
from icebus.schemas.message import now
from icebus.schemas.operations.reservations import Reservation
from icebus.schemas.topics import DEVICE, RESERVATION

BOARD = DEVICE(worker="w1", serial="B1")


def report(state: DeviceState) -> bytes:
    return DeviceReport(serial="B1", state=state, since=now(), session="s").to_json()


def test_given_a_farm_when_somebody_watches_then_how_it_stands_and_what_changes_is_told(
    broker: EmbeddedBroker, connect: Any
) -> None:
    worker, control = connect("w1"), connect("main")
    published(worker, BOARD, report(DeviceState.READY))
    with Client(broker.address("alice").url(), timeout=10) as alice, alice.watch() as changes:
        change = next(changes)
        assert (change.what, change.id, change.worker) == ("device", "B1", "w1")
        published(control, RESERVATION(reservation="r1"), held("alice"))
        change = next(changes)
        assert (change.what, change.id) == ("reservation", "r1")
        assert isinstance(change.now, Reservation)
        published(worker, BOARD, b"not a report")
        published(worker, BOARD, report(DeviceState.BROKEN))
        change = next(changes)
        assert isinstance(change.now, DeviceReport)
        assert change.now.state is DeviceState.BROKEN
        published(control, RESERVATION(reservation="r1"), b"")
        assert next(changes).now is None
        alice.close()
        with pytest.raises(ClientClosed):
            next(changes)
    assert list(changes) == []


def test_given_the_client_for_asyncio_when_it_watches_then_it_is_told_and_can_be_cancelled(
    broker: EmbeddedBroker, connect: Any
) -> None:
    published(connect("w1"), BOARD, report(DeviceState.READY))

    async def watch() -> list[str]:
        told: list[str] = []
        async with AsyncClient(broker.address("alice").url(), timeout=10) as alice:
            changes = alice.watch()
            first = await anext(changes)
            told.append(f"{first.what} {first.id}")
            next_one = asyncio.ensure_future(anext(changes))
            done, _ = await asyncio.wait([next_one], timeout=0.05)
            assert not done
            next_one.cancel()
            with pytest.raises(asyncio.CancelledError):
                await next_one
        return told

    assert asyncio.run(watch()) == ["device B1"]
