"""Lists that notebooks show as tables. They are lists in every other way: equal, JSON, printed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TypeVar

from icebus.schemas.message import now
from icebus.schemas.operations.history import HistoryEntry
from icebus.schemas.operations.reservations import HoldState, KnownDevice, Reservation
from icebus.schemas.shown import html_rows
from icebus.schemas.wording import counted, show_duration

T = TypeVar("T")


class Listed(list[T]):
    """A list that notebooks show as a table.

    Args:
        items: what is listed.
        noun: what one of them is called.
        columns: of the table.
        row: the cells of one of them.
    """

    def __init__(
        self,
        items: Iterable[T],
        noun: str,
        columns: Sequence[str],
        row: Callable[[T], Sequence[object]],
    ) -> None:
        super().__init__(items)
        self._noun = noun
        self._columns = columns
        self._row = row

    def _repr_html_(self) -> str:
        """The table, for notebooks."""
        caption = counted(len(self), self._noun)
        return html_rows(caption, self._columns, [self._row(each) for each in self])


def devices(found: Iterable[KnownDevice]) -> Listed[KnownDevice]:
    """Devices that control knows."""
    columns = ["serial", "state", "since", "user", "kind", "worker", "labels", "reason"]
    return Listed(found, "device", columns, _device)


def reservations(found: Iterable[Reservation]) -> Listed[Reservation]:
    """Reservations, with what time is left of them or where they wait."""
    columns = ["id", "user", "kind", "state", "devices", "time", "reason"]
    return Listed(found, "reservation", columns, _reservation)


def history(found: Iterable[HistoryEntry]) -> Listed[HistoryEntry]:
    """What happened."""
    columns = ["at", "event", "actor", "serial", "reservation", "user", "worker", "reason"]
    return Listed(found, "event", columns, _entry)


def serials(found: Iterable[str]) -> Listed[str]:
    """Devices by their serials."""
    return Listed(found, "device", ["serial"], _serial)


def _device(device: KnownDevice) -> list[object]:
    report = device.report
    state = "quarantined" if device.quarantined is not None else report.state.value
    labels = ", ".join(f"{name}={value}" for name, value in sorted(device.labels.items()))
    reason = device.quarantined or report.reason or device.draining or ""
    if device.claimed_by:
        reason = f"claimed by {', '.join(device.claimed_by)} as well; {reason}"
    if not device.fresh:
        reason = f"its worker does not answer; {reason}"
    return [
        report.serial,
        state,
        _moment(report.since),
        device.user or "",
        report.kind or "",
        device.worker,
        labels,
        reason.removesuffix("; "),
    ]


def _reservation(reservation: Reservation) -> list[object]:
    held = [each.serial for each in reservation.devices if each.state is not HoldState.RELEASED]
    if reservation.queue is not None:
        time = f"waits at position {reservation.queue.position}"
        reason = reservation.queue.reason
    else:
        time = f"{show_duration((reservation.until - now()).total_seconds())} left"
        reason = f"offered to {reservation.offer.to}" if reservation.offer else ""
    return [
        reservation.id,
        reservation.user,
        reservation.kind,
        reservation.state.value,
        ", ".join(held),
        time,
        reason,
    ]


def _entry(entry: HistoryEntry) -> list[object]:
    return [
        _moment(entry.at),
        entry.event.value,
        entry.actor,
        entry.serial or "",
        entry.reservation or "",
        entry.user or "",
        entry.worker or "",
        entry.reason,
    ]


def _serial(serial: str) -> list[object]:
    return [serial]


def _moment(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
