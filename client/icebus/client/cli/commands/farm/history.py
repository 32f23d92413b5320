"""``icebus history``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from icebus.client.cli.connecting import connect
from icebus.client.cli.durations import ago, show_local_iso
from icebus.client.cli.options.completion import (
    complete_any_reservation,
    complete_event,
    complete_serial,
    complete_user,
    complete_worker,
)
from icebus.client.cli.options.shared_options import Output, since_option
from icebus.client.cli.output.printing import Column, Format, print_message, print_rows

FIELDS = (
    *("number", "at", "event", "actor", "reservation", "user", "serial", "worker"),
    "reason",
)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(history)


def history(
    serial: Annotated[
        str | None,
        typer.Option("--serial", "-s", help="Of a board.", autocompletion=complete_serial),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option("--user", "-u", help="Of whose reservations.", autocompletion=complete_user),
    ] = None,
    reservation: Annotated[
        str | None,
        typer.Option(
            "--reservation",
            "-r",
            help="Of a reservation, also one that is over.",
            autocompletion=complete_any_reservation,
        ),
    ] = None,
    worker: Annotated[
        str | None, typer.Option(help="Of a worker's boards.", autocompletion=complete_worker)
    ] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(
            "--event",
            "-e",
            help="Only such, as ended or quarantined; repeatable.",
            autocompletion=complete_event,
        ),
    ] = None,
    since: Annotated[float | None, since_option("2d", "any age")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Entries, at most.")] = 100,
    output: Output = Format.TABLE,
) -> None:
    """Tell what happened, newest first: who held which board, and why each reservation ended.

    It is appended to and never changed. ACTOR is who did it; `control` does things by itself.
    Observers are told of the last events only.

    Examples:
      icebus history --since 2d
      icebus history --serial 70B3D5A1 -o csv > board.csv
      icebus history --user ann --event ended --limit 10
    """
    from icebus.schemas.errors import InvalidRequest
    from icebus.schemas.operations.history import HistoryEvent

    for each in event or []:
        if each not in set(HistoryEvent):
            raise InvalidRequest(f"{each!r} is no event; there are {', '.join(HistoryEvent)}")
    with connect() as client:
        entries = client.history(
            user=user,
            reservation=reservation,
            serial=serial,
            worker=worker,
            events=[HistoryEvent(each) for each in event or []] or None,
            since=ago(since),
            limit=limit,
        )
        observes = client.observes
    rows: list[dict[str, Any]] = [entry.model_dump(mode="json") for entry in entries]
    columns = [
        Column("at", show=show_local_iso),
        Column("event"),
        Column("actor", minor=2),
        Column("user"),
        Column("reservation", minor=3),
        Column("serial"),
        Column("worker", minor=4),
        Column("reason", minor=1),
    ]
    print_rows(rows, columns, output, "number", FIELDS)
    if observes:
        print_message(
            "You are an observer, who is told of the last 100 events of the farm only; a user can "
            "ask for all."
        )
    elif len(rows) == limit:
        print_message(f"These are the newest {limit}; --limit has more.")
