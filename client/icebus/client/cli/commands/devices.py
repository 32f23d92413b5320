"""``icebus devices`` and ``icebus available``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from icebus.client.cli.connecting import connect
from icebus.client.cli.durations import show_until
from icebus.client.cli.options import KIND, Kind, Output, Selector
from icebus.client.cli.output import (
    Column,
    CsvPrinter,
    Format,
    print_json,
    print_line,
    print_message,
    print_rows,
)
from icebus.schemas.wording import counted, show_duration

if TYPE_CHECKING:
    from icebus.schemas.operations.reservations import KnownDevice

FIELDS = (
    *("serial", "state", "since", "worker", "chip", "firmware", "firmware_version"),
    *("virtual", "port"),
    *("user", "reservation", "kind", "progress", "reason", "retry", "labels", "claimed_by"),
)

BUILT_IN = frozenset({"chip", "worker", "port", "serial", "virtual", "firmware"})
"""Labels that have columns of their own, or are for programs."""


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(devices)
    app.command()(available)


def devices(selector: Selector = None, output: Output = Format.TABLE) -> None:
    """List the devices of the farm: what they do, why some don't, and who holds them.

    Examples:
      icebus devices
      icebus devices -l rack=b,!virtual
      icebus devices -o json | jq '.[] | select(.state == "broken")'
    """
    from icebus.schemas.selectors import parse

    wanted = parse(selector or "")
    with connect() as client:
        rows = [_row(device) for device in client.devices() if wanted.matches(device.labels)]
    columns = [
        Column("serial"),
        Column("state"),
        Column("for", right=True, minor=2),
        Column("worker", minor=4),
        Column("chip", minor=5),
        Column("firmware", minor=6),
        Column("user"),
        Column("reservation", minor=1),
        Column("reason", minor=1),
    ]
    shown = rows
    if output is Format.TABLE:
        shown = [_shown(row) for row in rows]
        if any(row["labels"] for row in shown):
            columns.insert(-1, Column("labels", minor=3))
    print_rows(shown, columns, output, "serial", FIELDS)
    claimed = [row for row in rows if row["claimed_by"]]
    if claimed:
        print_message(
            f"{counted(len(claimed), 'board')} claimed by more than one worker: what the worker "
            "shown says counts. `icebus doctor` says what to do."
        )
    if not rows:
        print_message(
            f"No device is {selector}. `icebus devices -o json` has all labels."
            if selector
            else "No devices. `icebus up --boards 4` starts virtual ones."
        )


def _row(device: KnownDevice) -> dict[str, Any]:
    report = device.report
    state = report.state.value if device.fresh else "unreachable"
    return {
        "serial": report.serial,
        "state": state,
        "since": report.since.isoformat(),
        "worker": device.worker,
        "chip": report.chip,
        "firmware": report.firmware,
        "firmware_version": report.firmware_version,
        "virtual": report.virtual,
        "port": report.port,
        "user": device.user,
        "reservation": device.reservation,
        "kind": report.kind,
        "progress": report.progress,
        "reason": report.reason if device.fresh else "its worker does not answer",
        "retry": None if report.retry is None else report.retry.isoformat(),
        "labels": dict(sorted(device.labels.items())),
        "claimed_by": device.claimed_by,
    }


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row for people."""
    again = (
        f" (again in {show_until(datetime.fromisoformat(row['retry']))})" if row["retry"] else ""
    )
    labels = [f"{name}={value}" for name, value in row["labels"].items() if name not in BUILT_IN]
    claims = f"claimed by {' and '.join(row['claimed_by'])} too" if row["claimed_by"] else ""
    reason = "; ".join(each for each in (f"{row['reason']}{again}", claims) if each)
    return {**row, "for": _age(row), "reason": reason, "labels": labels}


def _age(row: dict[str, Any]) -> str:
    since = datetime.fromisoformat(row["since"])
    return show_duration((datetime.now(UTC) - since).total_seconds())


def available(kind: Kind = KIND, selector: Selector = None, output: Output = Format.TABLE) -> None:
    """Tell how many devices a reservation could have now.

    Examples:
      icebus available
      icebus available -l chip=rp2040
      icebus available -o name | head -1 | xargs icebus reserve --serial
    """
    with connect() as client:
        serials = client.available(kind, selector)
    match output:
        case Format.TABLE:
            print_line(f"{len(serials)} available for {kind}")
        case Format.JSON:
            print_json({"kind": kind, "available": len(serials), "serials": serials}, indent=2)
        case Format.JSONL:
            print_json({"kind": kind, "available": len(serials), "serials": serials})
        case Format.CSV:
            printer = CsvPrinter(["serial"])
            for serial in serials:
                printer.row({"serial": serial})
        case Format.NAME:
            for serial in serials:
                print_line(serial)
