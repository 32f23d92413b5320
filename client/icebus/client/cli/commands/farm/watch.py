"""``icebus watch``."""

from __future__ import annotations

import json
import queue
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icebus.client.cli.commands.farm.watch_lines import LineWriter, Senders
from icebus.client.cli.connecting import CONNECT_TIMEOUT, FARM, print_back, print_problem
from icebus.client.cli.output.printing import print_json, print_line, print_message

if TYPE_CHECKING:
    from icebus.bus import Incoming
    from icebus.schemas.errors import IcebusError


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(watch)


class WatchFormat(StrEnum):
    """Form of live events."""

    TABLE = "table"
    JSONL = "jsonl"


def watch(
    output: Annotated[WatchFormat, typer.Option("--output", "-o", help="Form.")] = (
        WatchFormat.TABLE
    ),
) -> None:
    """Show what happens on the farm, live, until Ctrl-C: devices, reservations, your results.

    It begins with how things stand. Boards tell what is tried when they fail, and why; reservations
    where they stand in the queue, and which boards come to them and go.

    Examples:
      icebus watch
      icebus watch -o jsonl | jq 'select(.what == "results")'
    """
    from icebus.bus import Bus, check_role
    from icebus.client._connection.farm_watch import FarmWatch
    from icebus.client._profiles.profile import find_address
    from icebus.schemas.deadline import Deadline
    from icebus.schemas.errors import IcebusError
    from icebus.schemas.topics import (
        CLAIM,
        CONTROL_STATE,
        DEVICE,
        EVENT,
        RESERVATION,
        WORKER_STATE,
        Role,
    )

    address = find_address(farm=FARM.get())
    seen: queue.SimpleQueue[dict[str, Any] | IcebusError | datetime] = queue.SimpleQueue()

    def note(incoming: Incoming) -> None:
        seen.put(as_row(incoming))

    bus = Bus(address, name=f"{address.user}-watch", session_expiry=0)
    for topic in (CONTROL_STATE, WORKER_STATE, DEVICE, CLAIM, RESERVATION):
        bus.subscribe(topic, note)
    bus.subscribe(EVENT, note, user=address.user)
    bus.connect(Deadline.after(CONNECT_TIMEOUT))
    check_role(bus, Role.OBSERVER, "icebus watch", Deadline.after(CONNECT_TIMEOUT))
    bus.on_problem(seen.put)
    FarmWatch(bus, lambda _event, told: seen.put(told)).keep()
    writer, senders = LineWriter(), Senders()
    print_message(f"watching {address.host}:{address.port} as {address.user}; Ctrl-C ends")
    try:
        while True:
            row = seen.get()
            if isinstance(row, IcebusError):
                if (refusal := bus.refusal) is not None:
                    raise refusal
                print_problem(row)
            elif isinstance(row, datetime):
                print_back(row)
            elif not senders.counts(row):
                continue
            elif output is WatchFormat.JSONL:
                print_json(row)
            else:
                print_line(writer.line(row))
    finally:
        bus.close(Deadline.after(2))


def as_row(incoming: Incoming) -> dict[str, Any]:
    """A message as a row: what it is about, who is concerned, and its data."""
    from icebus.schemas.message import now
    from icebus.schemas.topics import EVENT

    try:
        data = json.loads(incoming.payload) if incoming.payload else None
    except ValueError:
        data = incoming.payload.decode(errors="replace")
    levels = incoming.topic.split("/")
    event = EVENT.parse(incoming.topic)
    if event is not None:
        data = data.get("data", data) if isinstance(data, dict) else data
    what = event["event"] if event else "device" if "device" in levels else levels[0]
    if levels[0] == "control" and levels[1] in ("reservation", "claim"):
        what = levels[1]
    return {
        "at": now().isoformat(timespec="milliseconds"),
        "what": what,
        **incoming.ids,
        "retained": incoming.retained,
        "data": data,
    }
