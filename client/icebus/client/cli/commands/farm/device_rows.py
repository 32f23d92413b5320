"""Devices as rows: for programs as they are, for people in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from icebus.client.cli.durations import show_until
from icebus.client.cli.output.printing import Column, table
from icebus.schemas.wording import show_duration

if TYPE_CHECKING:
    from icebus.schemas.operations.reservations import KnownDevice

Row = Mapping[str, Any]

FIELDS = (
    *("serial", "state", "since", "worker", "chip", "firmware", "firmware_version"),
    *("virtual", "port"),
    *("user", "reservation", "kind", "progress", "reason", "retry", "labels", "claimed_by"),
)

BUILT_IN = frozenset({"chip", "worker", "port", "serial", "virtual", "firmware"})
"""Labels that have columns of their own, or are for programs."""

COLUMNS = (
    Column("serial"),
    Column("state"),
    Column("for", right=True, minor=2),
    Column("worker", minor=4),
    Column("chip", minor=5),
    Column("firmware", minor=6),
    Column("user"),
    Column("reservation", minor=1),
    Column("reason", minor=1),
)


def as_row(device: KnownDevice) -> dict[str, Any]:
    """A device for programs."""
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


def shown(row: Row) -> dict[str, Any]:
    """A row for people."""
    again = (
        f" (again in {show_until(datetime.fromisoformat(row['retry']))})" if row["retry"] else ""
    )
    labels = [f"{name}={value}" for name, value in row["labels"].items() if name not in BUILT_IN]
    claims = f"claimed by {' and '.join(row['claimed_by'])} too" if row["claimed_by"] else ""
    reason = "; ".join(each for each in (f"{row['reason']}{again}", claims) if each)
    return {**row, "for": _age(row), "reason": reason, "labels": labels}


def columns_for(rows: Sequence[Row]) -> list[Column]:
    """The columns of a table of rows for people; of labels only where there are any."""
    columns = list(COLUMNS)
    if any(row["labels"] for row in rows):
        columns.insert(-1, Column("labels", minor=3))
    return columns


def device_table(rows: Sequence[Row]) -> str:
    """Rows for programs as a table for people."""
    told = [shown(row) for row in rows]
    return table(told, columns_for(told))


def _age(row: Row) -> str:
    since = datetime.fromisoformat(row["since"])
    return show_duration((datetime.now(UTC) - since).total_seconds())
