"""All that is known of single devices: what they do and for whom, and what happened to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from icebus.client.cli.commands.farm.device_rows import FIELDS, as_row, shown
from icebus.client.cli.durations import show_local_iso, show_until
from icebus.client.cli.output.printing import (
    Format,
    aligned,
    plain,
    print_json,
    print_line,
    print_rows,
)
from icebus.schemas.ids import meant

if TYPE_CHECKING:
    from icebus.client._client import Client
    from icebus.schemas.operations.reservations import KnownDevice, Reservation

HISTORY = 10
"""Entries of the history that are told of each device."""

Details = Mapping[str, Any]


def chosen_devices(known: Sequence[KnownDevice], serials: Sequence[str]) -> list[KnownDevice]:
    """The devices that are named, each once, in the order in which they are.

    Raises:
        UnknownDevice: there is none of that serial.
    """
    from icebus.schemas.errors import UnknownDevice

    by_serial = {each.report.serial: each for each in known}
    named = list(dict.fromkeys(meant(serials, by_serial)))
    if unknown := [serial for serial in named if serial not in by_serial]:
        raise UnknownDevice(
            f"the farm has no device {unknown[0]!r}; `icebus devices` lists them", serial=unknown[0]
        )
    return [by_serial[serial] for serial in named]


def print_details(client: Client, devices: Sequence[KnownDevice], output: Format) -> None:
    """Print all that is known of devices."""
    if output in (Format.CSV, Format.NAME):
        print_rows([as_row(each) for each in devices], [], output, "serial", FIELDS)
        return
    reservations = {each.id: each for each in client.reservations(everybody=True)}
    found = []
    for device in devices:
        history = client.history(serial=device.report.serial, limit=HISTORY)
        told = [entry.model_dump(mode="json") for entry in history]
        found.append(details(device, reservations.get(device.reservation or ""), told))
    if output is Format.JSON:
        print_json(found, indent=2)
    elif output is Format.JSONL:
        for each in found:
            print_json(each)
    else:
        print_line("\n\n".join(map(as_text, found)))


def details(
    device: KnownDevice, reservation: Reservation | None, history: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """A device for programs, with all that is known of it."""
    return {
        **as_row(device),
        "until": None if reservation is None else reservation.until.isoformat(),
        "quarantined": device.quarantined,
        "draining": device.draining,
        "history": list(history),
    }


def as_text(found: Details) -> str:
    """A device for people: a line for each fact that there is, then what happened to it."""
    lines = [found["serial"]]
    lines += [f"  {line}" for line in aligned(list(_facts(found))).splitlines()]
    if found["history"]:
        lines.append("  history, newest first")
        cells = [_happened(entry) for entry in found["history"]]
        lines += [f"    {line}" for line in aligned(cells).splitlines()]
    return "\n".join(lines)


def _facts(found: Details) -> Iterator[tuple[str, str]]:
    told = shown(found)
    progress = "" if found["progress"] is None else f", {found['progress']:.0%} done"
    yield "state", f"{found['state']} for {told['for']}{progress}"
    if told["reason"]:
        yield "reason", told["reason"]
    if found["quarantined"] is not None:
        yield "quarantine", found["quarantined"] or "no reason was given"
    if found["reservation"]:
        end = ""
        if found["until"]:
            end = f", ends in {show_until(datetime.fromisoformat(found['until']))}"
        yield "held by", f"{found['user']} (reservation {found['reservation']}{end})"
    else:
        yield "held by", "nobody"
    if found["kind"]:
        yield "serves as", found["kind"]
    drained = f", which gets no new reservations: {found['draining']}" if found["draining"] else ""
    yield "worker", f"{found['worker']}{drained}"
    yield "port", f"{plain(found['port'])}{' (virtual)' if found['virtual'] else ''}"
    yield "chip", plain(found["chip"])
    yield "firmware", f"{plain(found['firmware'])} {found['firmware_version']}".rstrip()
    if told["labels"]:
        yield "labels", plain(told["labels"])


def _happened(entry: Mapping[str, Any]) -> list[str]:
    whose = entry["user"] or ""
    actor = "" if entry["actor"] == entry["user"] else f"by {entry['actor']}"
    return [
        show_local_iso(entry["at"]),
        entry["event"],
        whose,
        actor,
        entry["reservation"] or "",
        entry["reason"],
    ]
