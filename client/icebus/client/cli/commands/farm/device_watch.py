"""``icebus devices --watch``: the table of devices as it changes, or a line for each change."""

from __future__ import annotations

import queue
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from icebus.client.cli.commands.farm.device_rows import FIELDS, as_row, device_table, shown
from icebus.client.cli.connecting import (
    CLOSE_TIMEOUT,
    CONNECT_TIMEOUT,
    FARM,
    print_back,
    print_problem,
)
from icebus.client.cli.output.printing import CsvPrinter, Format, can_draw, print_json, print_line
from icebus.schemas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from icebus.bus import Bus, Incoming
    from icebus.client._farm.survey import Survey
    from icebus.schemas.errors import IcebusError
    from icebus.schemas.operations.reservations import KnownDevice
    from icebus.schemas.topics import Topic

REDRAWN = 0.25
"""Seconds between pictures of the table, at least: more than people read, less than they notice."""

AGED = 1.0
"""Seconds until it is drawn anew although nothing changed: what stands in it grows older."""

Row = Mapping[str, Any]
Wanted = Callable[["KnownDevice"], bool]
Wait: TypeAlias = "Callable[[float], list[IcebusError | datetime]]"
"""Takes in what comes within so many seconds, and returns what is to be told of the connection."""


def watch_devices(wanted: Wanted, output: Format) -> None:
    """Show devices as they change, until Ctrl-C.

    Args:
        wanted: which devices.
        output: a table, which is drawn anew on a terminal and is lines elsewhere; or rows.
    """
    if output is Format.TABLE and can_draw():
        with _following() as (farm, wait, where):
            _draw(farm, wait, wanted, where)
    else:
        with _following() as (farm, wait, _where):
            _print_changes(farm, wait, wanted, output)


@contextmanager
def _following() -> Iterator[tuple[Survey, Wait, str]]:
    """The farm as it is retained; a function that waits for news of it; and where it is."""
    from icebus.bus import Bus, check_role
    from icebus.client._farm.survey import survey
    from icebus.client._profiles.profile import find_address
    from icebus.schemas.deadline import Deadline
    from icebus.schemas.topics import Role

    address = find_address(farm=FARM.get())
    bus = Bus(address, name=f"{address.user}-devices", session_expiry=0)
    bus.connect(Deadline.after(CONNECT_TIMEOUT))
    try:
        check_role(bus, Role.OBSERVER, "icebus devices", Deadline.after(CONNECT_TIMEOUT))
        farm = survey(bus, Deadline.after(CONNECT_TIMEOUT), _topics())
        wait = _subscribe(bus, farm)
        yield farm, wait, f"{address.host}:{address.port} as {address.user}"
    finally:
        bus.close(Deadline.after(CLOSE_TIMEOUT))


def _topics() -> Sequence[Topic]:
    from icebus.schemas import topics

    return (
        *(topics.WORKER_STATE, topics.CONTROL_HEARTBEAT, topics.WORKER_HEARTBEAT),
        *(topics.DEVICE, topics.CLAIM, topics.RESERVATION),
    )


def _subscribe(bus: Bus, farm: Survey) -> Wait:
    """Follow the farm; what is returned takes in what comes within so many seconds.

    It returns then, or as soon as there is something, what is to be told of the connection.
    """
    from icebus.client._connection.farm_watch import FarmWatch
    from icebus.schemas.errors import IcebusError, InvalidRequest

    news: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def note(topic: Topic, incoming: Incoming) -> None:
        news.put((topic, incoming.ids, incoming.payload))

    for topic in _topics():
        bus.subscribe(topic, partial(note, topic))
    bus.on_problem(news.put)
    FarmWatch(bus, lambda _event, told: news.put(told)).keep()

    def wait(seconds: float) -> list[IcebusError | datetime]:
        told: list[IcebusError | datetime] = []
        timeout: float | None = seconds
        while True:
            try:
                each = news.get(timeout=timeout) if timeout else news.get_nowait()
            except queue.Empty:
                return told
            timeout = None
            if isinstance(each, IcebusError | datetime):
                if (refusal := bus.refusal) is not None:
                    raise refusal
                told.append(each)
                continue
            topic, ids, payload = each
            try:
                farm.take(topic, ids, payload)
            except InvalidRequest:
                continue  # what one device's message is wrong in, others' are not

    return wait


def _rows(farm: Survey, wanted: Wanted) -> list[dict[str, Any]]:
    from icebus.client._farm import retained as retained

    return [as_row(each) for each in retained.devices(farm) if wanted(each)]


# --- on a terminal --------------------------------------------------------------------------------


def _draw(
    farm: Survey,
    wait: Wait,
    wanted: Wanted,
    where: str,
) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    away = ""
    with Live(console=Console(), screen=True, auto_refresh=False) as live:
        while True:
            lines = picture(_rows(farm, wanted), where, away)
            room = shutil.get_terminal_size().lines
            live.update(
                Text("\n".join(cropped(lines, room)), no_wrap=True, overflow="crop"), refresh=True
            )
            drawn = time.monotonic()
            for told in wait(AGED):
                away = "" if isinstance(told, datetime) else told.message
            # Several changes are one picture.
            time.sleep(max(0.0, REDRAWN - (time.monotonic() - drawn)))


def picture(rows: Sequence[Row], where: str, away: str) -> list[str]:
    """The lines of the live table.

    Args:
        rows: of the devices.
        where: the farm, and who we are there.
        away: why the farm is away; empty while it is not.
    """
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["state"]] = counts.get(row["state"], 0) + 1
    states = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    first = f"{counted(len(rows), 'device')}: {states}" if rows else "no devices"
    head = f"{first} · {where} · {datetime.now().astimezone():%H:%M:%S} · Ctrl-C ends"
    return [head, *([f"! {away}"] if away else []), "", *device_table(rows).splitlines()]


def cropped(lines: Sequence[str], height: int) -> list[str]:
    """As many of the lines as there is room for; the last says how many are left out."""
    if len(lines) <= height:
        return list(lines)
    room = max(1, height - 1)
    return [*lines[:room], f"… {len(lines) - room} more; -l and serials choose some"]


# --- elsewhere ------------------------------------------------------------------------------------


def _print_changes(
    farm: Survey,
    wait: Wait,
    wanted: Wanted,
    output: Format,
) -> None:
    printer = CsvPrinter(("at", *FIELDS)) if output is Format.CSV else None
    before: dict[str, Row] = {}
    while True:
        now = datetime.now().astimezone()
        rows: dict[str, Row] = {row["serial"]: row for row in _rows(farm, wanted)}
        for row in changes(before, rows):
            told = {"at": now.isoformat(timespec="milliseconds"), **row}
            if printer is not None:
                printer.row(told)
            elif output is Format.JSONL:
                print_json(told)
            else:
                print_line(as_line(now, row))
        before = rows
        for news in wait(AGED):
            if isinstance(news, datetime):
                print_back(news)
            else:
                print_problem(news)


def changes(before: Mapping[str, Row], after: Mapping[str, Row]) -> Iterable[Row]:
    """The rows that differ in anything but how far something has come; of what is gone, the last.

    Its state is ``gone`` then.
    """
    for serial, row in after.items():
        was = before.get(serial)
        if was is None or {**was, "progress": None} != {**row, "progress": None}:
            yield row
    for serial, row in before.items():
        if serial not in after:
            yield {**row, "state": "gone", "reason": ""}


def as_line(at: datetime, row: Row) -> str:
    """A change for people."""
    told = shown(row)
    holder = f"{row['user']} {row['reservation']}" if row["reservation"] else "-"
    text = f"{at:%H:%M:%S}  {row['serial']:<16}  {row['state']:<11}  {holder}  {told['reason']}"
    return "".join(char if char.isprintable() else "?" for char in text.rstrip())
