"""``icebus devices`` and ``icebus available``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from icebus.client.cli.common import KIND, Kind, Output, connect
from icebus.client.cli.durations import show_duration
from icebus.client.cli.output import (
    Column,
    CsvPrinter,
    Format,
    print_json,
    print_line,
    print_rows,
    say,
)

if TYPE_CHECKING:
    from icebus.schemas.reservations import KnownDevice

FIELDS = (
    *("serial", "state", "since", "worker", "chip", "firmware", "virtual", "port"),
    *("user", "reservation", "kind", "progress", "reason"),
)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(devices)
    app.command()(available)


def devices(output: Output = Format.TABLE) -> None:
    """List all devices of the farm, and who holds them.

    Examples:
      icebus devices
      icebus devices -o json | jq '.[] | select(.state == "broken")'
    """
    with connect() as client:
        rows = [_row(device) for device in client.devices()]
    columns = [
        Column("serial"),
        Column("state"),
        Column("for", right=True),
        Column("worker"),
        Column("chip"),
        Column("firmware"),
        Column("user"),
        Column("reservation"),
        Column("reason"),
    ]
    shown = rows if output is not Format.TABLE else [{**row, "for": _age(row)} for row in rows]
    print_rows(shown, columns, output, "serial", FIELDS)
    if not rows:
        say("No devices. `icebus up --boards 4` starts virtual ones.")


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
        "virtual": report.virtual,
        "port": report.port,
        "user": device.user,
        "reservation": device.reservation,
        "kind": report.kind,
        "progress": report.progress,
        "reason": report.reason if device.fresh else "its worker does not answer",
    }


def _age(row: dict[str, Any]) -> str:
    since = datetime.fromisoformat(row["since"])
    return show_duration((datetime.now(UTC) - since).total_seconds())


def available(kind: Kind = KIND, output: Output = Format.TABLE) -> None:
    """Tell how many devices a reservation could have now.

    Examples:
      icebus available
      icebus available -o name | head -1 | xargs icebus reserve --serial
    """
    with connect() as client:
        serials = client.available(kind)
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
