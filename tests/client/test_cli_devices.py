"""Devices on the command line: what is made of them, without any farm."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from icebus.client.cli.commands.farm.device_details import as_text, chosen_devices, details
from icebus.client.cli.commands.farm.device_rows import as_row
from icebus.client.cli.commands.farm.device_watch import as_line, changes, cropped, picture
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.operations.reservations import KnownDevice

AT = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)


def device(serial: str = "B1", **report: Any) -> KnownDevice:
    told = {"state": DeviceState.READY, "since": AT, "session": "s1", **report}
    return KnownDevice(worker="w1", fresh=True, report=DeviceReport(serial=serial, **told))


def test_given_rows_when_some_change_then_those_are_told_and_what_is_gone() -> None:
    before = {each: as_row(device(each)) for each in ("B1", "B2", "B3")}
    after = {
        "B1": as_row(device("B1", progress=0.5)),
        "B2": as_row(device("B2", state=DeviceState.BROKEN, reason="silent")),
        "B4": as_row(device("B4")),
    }
    told = [(row["serial"], row["state"]) for row in changes(before, after)]
    assert told == [("B2", "broken"), ("B4", "ready"), ("B3", "gone")]


def test_given_a_change_when_written_as_a_line_then_it_is_one_whatever_its_reason() -> None:
    row = as_row(device(state=DeviceState.BROKEN, reason="no\nport\x1b[31m"))
    line = as_line(AT, row)
    assert line.startswith("09:30:00  B1                broken       -  no?port?[31m")
    assert line.isprintable()


def test_given_more_lines_than_there_is_room_when_cropped_then_the_last_says_how_many() -> None:
    lines = [str(number) for number in range(10)]
    assert cropped(lines, 10) == lines
    assert cropped(lines, 4)[:3] == lines[:3]
    assert cropped(lines, 4)[3].startswith("… 7 more")


def test_given_a_farm_that_is_away_when_drawn_then_it_says_so_above_what_was_known() -> None:
    rows = [as_row(device("B1")), as_row(device("B2", state=DeviceState.BROKEN))]
    head, *rest = picture(rows, "lab:8883 as ann", "the broker is away since 09:00:00")
    assert head.startswith("2 devices: 1 broken, 1 ready · lab:8883 as ann · ")
    assert rest[0] == "! the broker is away since 09:00:00"
    assert any("B2" in line for line in rest)


def test_given_serials_in_any_case_when_chosen_then_each_device_is_chosen_once() -> None:
    known = [device("B1"), device("B2")]
    assert chosen_devices(known, ["b2", "B1", "B2"]) == [known[1], known[0]]


def test_given_all_about_a_device_when_told_then_each_fact_has_its_line() -> None:
    known = device(firmware="icebus", firmware_version="3", port="1-1.2", chip="rp2040")
    happened = {
        "at": AT.isoformat(),
        "event": "quarantined",
        "user": None,
        "actor": "root",
        "reservation": None,
        "reason": "smoke",
    }
    found = details(known.model_copy(update={"quarantined": "smoke"}), None, [happened])
    lines = [" ".join(line.split()) for line in as_text(found).splitlines()]
    assert lines[0] == "B1"
    assert {"held by nobody", "firmware icebus 3", "port 1-1.2", "quarantine smoke"} <= set(lines)
    assert lines[-1].endswith("quarantined by root smoke")
