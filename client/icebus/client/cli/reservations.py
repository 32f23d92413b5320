"""``icebus reserve``, ``icebus reservations`` and ``icebus release``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from icebus.client.cli.common import KIND, Kind, Output, connect
from icebus.client.cli.common import duration as duration_of
from icebus.client.cli.durations import show_duration
from icebus.client.cli.output import Column, Format, print_line, print_rows, say

if TYPE_CHECKING:
    from icebus.schemas.reservations import Reservation


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(reserve)
    app.command()(reservations)
    app.command()(release)


def reserve(
    count: Annotated[int | None, typer.Argument(min=1, help="How many. (default: 1)")] = None,
    serial: Annotated[
        list[str] | None, typer.Option("--serial", "-s", help="Which; may be given repeatedly.")
    ] = None,
    kind: Kind = KIND,
    duration: Annotated[
        float,
        typer.Option(
            "--duration", "-d", parser=duration_of, metavar="DURATION", help="Such as 90, 30s, 15m."
        ),
    ] = 1800.0,
    timeout: Annotated[
        float,
        typer.Option(
            parser=duration_of, metavar="DURATION", help="How long to wait until boards are ready."
        ),
    ] = 180.0,
    shell: Annotated[
        bool, typer.Option("--shell", help="Print a line for the shell to evaluate.")
    ] = False,
    output: Output = Format.NAME,
) -> None:
    """Reserve boards until they are released or the time is up; prints the reservation's id.

    Examples:
      icebus reserve 2 --duration 2h
      eval "$(icebus reserve 4 --shell)"; icebus evaluate *.bin; icebus release --all
      icebus reserve --serial 70B3D5A1 --serial 70B3D5A2
    """
    if count is not None and serial:
        raise typer.BadParameter("give either how many or which (--serial)")
    from icebus.client.cli.progress import waiting

    with connect() as client:
        wanted = ", ".join(serial) if serial else f"{count or 1} boards"
        with waiting(f"preparing {wanted}"):
            held = client.reserve(
                count,
                serials=serial or None,
                kind=kind,
                duration=duration,
                detached=True,
                keep_alive=False,
                timeout=timeout,
            )
        document = held.document
        say(f"{' '.join(held.serials)} reserved for {show_duration(duration)}")
        if shell:
            print_line(f"export ICEBUS_RESERVATION={document.id}")
        elif output is Format.NAME:
            print_line(document.id)
        else:
            _print([document], output)


def reservations(
    everybody: Annotated[bool, typer.Option("--all", "-a", help="Of all users.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """List reservations that have not ended: yours, or everybody's.

    Examples:
      icebus reservations
      icebus reservations --all -o json
    """
    with connect() as client:
        found = client.reservations(everybody=everybody)
    _print(found, output)


def release(
    ids: Annotated[list[str] | None, typer.Argument(help="Reservations.")] = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="All that are yours.")] = False,
) -> None:
    """Release reservations: their boards become free at once.

    Examples:
      icebus release 5f1c2e9a7b3d4c60
      icebus release --all
    """
    if bool(ids) == everything:
        raise typer.BadParameter("give the ids of reservations, or --all")
    with connect() as client:
        for each in ids or [found.id for found in client.reservations()]:
            client.end(each)
            print_line(f"{each} released")


def _print(found: list[Reservation], output: Format) -> None:
    columns = [
        Column("id"),
        Column("state"),
        Column("user"),
        Column("kind"),
        Column("left", right=True),
        Column("attached"),
        Column("devices"),
    ]
    rows = [_row(each) for each in found]
    if output is Format.TABLE:
        rows = [
            {**row, "devices": [held["serial"] for held in row["devices"]], "left": _left(each)}
            for row, each in zip(rows, found, strict=True)
        ]
    print_rows(rows, columns, output, "id")


def _row(document: Reservation) -> dict[str, Any]:
    row: dict[str, Any] = document.model_dump(mode="json")
    return {**row, "attached": document.client is not None}


def _left(document: Reservation) -> str:
    from icebus.schemas.message import now

    return show_duration((document.until - now()).total_seconds())
