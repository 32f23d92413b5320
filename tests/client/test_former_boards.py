"""Boards that a farm has no more which is started with fewer, or others: what becomes of them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from icebus.client.local_farm.former_boards import (
    former_boards,
    has_something_to_lose,
    plugged_boards,
    retire_former,
)
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.operations.reservations import KnownDevice

ABSENT = DeviceState.ABSENT


def board(
    serial: str, state: DeviceState = ABSENT, *, virtual: bool = True, worker: str = "local"
) -> KnownDevice:
    report = DeviceReport(
        serial=serial, state=state, since=datetime.now(UTC), session="s", virtual=virtual
    )
    return KnownDevice(worker=worker, report=report, fresh=True)


def serials(devices: list[KnownDevice]) -> list[str]:
    return [each.report.serial for each in devices]


def test_given_fewer_boards_then_those_that_the_rack_has_no_more_are_former_and_no_others() -> None:
    devices = [
        board("A", DeviceState.READY),
        board("B"),  # restarts just now
        board("C"),
        board("D", DeviceState.QUARANTINED),
        board("E", worker="bench"),
        board("F", virtual=False),
    ]

    assert serials(former_boards(devices, {"A", "B"}, "local", usb=True)) == ["C", "D"]
    assert serials(former_boards(devices, {"A", "B"}, "local", usb=False)) == ["C", "D", "F"]
    assert former_boards(devices[:2], {"A", "B"}, "local", usb=False) == []


def test_given_boards_with_something_to_lose_then_they_stay_and_it_is_said_why() -> None:
    held = board("A").model_copy(update={"reservation": "r1", "user": "alice"})
    shut = board("B").model_copy(update={"quarantined": "loose socket"})

    assert has_something_to_lose(held)
    assert has_something_to_lose(shut)
    assert not has_something_to_lose(board("C"))
    # Nobody is asked where there is nothing to do: no broker answers at that address.
    kept = retire_former("mqtt://admin@127.0.0.1:1", [held, shut])
    assert "alice holds it" in kept[0]
    assert "`icebus release r1`" in kept[0]
    assert "quarantine (loose socket)" in kept[1]


@pytest.mark.parametrize("content", [None, "{", '{"boards": []}'])
def test_given_a_rack_whose_boards_are_not_known_then_none_is_taken_for_former(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "rack.json").write_text(content)

    assert plugged_boards(tmp_path) == (None if content == "{" else set())
