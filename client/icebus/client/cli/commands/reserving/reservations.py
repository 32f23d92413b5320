"""``icebus reserve``, ``reservations``, ``extend`` and ``release``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icebus.client.cli.connecting import connect
from icebus.client.cli.durations import show_local_iso, show_until
from icebus.client.cli.options.completion import (
    complete_release,
    complete_reservation,
    complete_serial,
)
from icebus.client.cli.options.shared_options import (
    KIND,
    Kind,
    Output,
    Priority,
    Replace,
    ReservationArgs,
    Selector,
    Wait,
)
from icebus.client.cli.options.shared_options import duration as duration_of
from icebus.client.cli.output.printing import Column, Format, print_line, print_message, print_rows
from icebus.schemas.wording import counted, show_duration

if TYPE_CHECKING:
    from icebus.client._client import BaseClient, Client
    from icebus.schemas.operations.reservations import Reservation

FIELDS = (
    *("id", "user", "kind", "state", "devices", "created", "until"),
    *("client", "reason", "priority", "replace", "queue", "offer", "attached"),
)

EXTENDED = ("reservation", "before", "after")

ROUNDING = 1.0
"""Seconds that an end may fall short of what was asked before that is worth a word."""


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(reserve)
    app.command()(reservations)
    app.command()(extend)
    app.command()(release)


def reserve(
    count: Annotated[int | None, typer.Argument(min=1, help="How many. (default: 1)")] = None,
    serial: Annotated[
        list[str] | None,
        typer.Option(
            "--serial",
            "-s",
            help="Which; may be given repeatedly.",
            autocompletion=complete_serial,
        ),
    ] = None,
    number: Annotated[
        int | None,
        typer.Option("--count", "-n", min=1, help="How many, as other commands take it."),
    ] = None,
    kind: Kind = KIND,
    arg: ReservationArgs = None,
    duration: Annotated[
        float,
        typer.Option(
            "--duration",
            "-d",
            parser=duration_of,
            metavar="DURATION",
            help="Such as 90, 30s, 15m. (default: 30m)",
            show_default=False,
        ),
    ] = 1800.0,
    selector: Selector = None,
    wait: Wait = None,
    priority: Priority = 0,
    replace: Replace = False,
    timeout: Annotated[
        float,
        typer.Option(
            parser=duration_of,
            metavar="DURATION",
            help="How long boards that were given may take to be ready. (default: 3m)",
            show_default=False,
        ),
    ] = 180.0,
    shell: Annotated[
        bool, typer.Option("--shell", help="Print a line for the shell to evaluate.")
    ] = False,
    output: Output = Format.NAME,
) -> None:
    """Reserve boards until they are released or the time is up; prints the reservation's id.

    All that are asked for or none. What can't be had at once is refused, unless --wait says to
    stand in the queue; where one stands there is told on stderr, and Ctrl-C gives up the place.

    Examples:
      icebus reserve 2 --duration 2h
      icebus reserve 4 -l chip=rp2350,rack!=b --wait 2h --priority 5 --replace
      eval "$(icebus reserve 4 --shell)"; icebus evaluate *.bin; icebus release --all
      icebus reserve --serial 70B3D5A1 --serial 70B3D5A2
      icebus reserve 2 --kind KIND --arg NAME=VALUE
    """
    if count is not None and number is not None:
        raise typer.BadParameter("give how many once: as an argument or with --count")
    count = number if count is None else count
    if count is not None and serial:
        raise typer.BadParameter("give either how many or which (--serial)")
    from icebus.client.cli.json_schemas.kinds import offered_reservation_args
    from icebus.client.cli.output.progress import queue_messages

    with connect() as client:
        args = offered_reservation_args(client, kind, arg)
        wanted = ", ".join(serial) if serial else counted(count or 1, "board")
        with queue_messages(client, f"preparing {wanted}", wait):
            held = client.reserve(
                count,
                serials=serial or None,
                selector=selector,
                kind=kind,
                args=args,
                duration=duration,
                wait=wait or 0.0,
                priority=priority,
                replace=replace,
                detached=True,
                keep_alive=False,
                timeout=timeout,
            )
        document = held.document
        print_message(f"{' '.join(held.serials)} reserved for {show_duration(duration)}")
        if shell:
            print_line(f"export ICEBUS_RESERVATION={document.id}")
        elif output is Format.NAME:
            print_line(document.id)
        else:
            _print([document], output)


def reservations(
    everybody: Annotated[bool, typer.Option("--all", "-a", help="Of all users.")] = False,
    offered: Annotated[
        bool, typer.Option("--offered", help="Those that others offer to you, and no others.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """List reservations that have not ended: yours, or everybody's, and what queued ones wait for.

    Those that others offer to you stand in the table too.

    Examples:
      icebus reservations
      icebus reservations --all -o json
    """
    if everybody and offered:
        raise typer.BadParameter("give either --all or --offered")
    with connect() as client:
        user = client.user
        known = client.reservations(everybody=True)
    to_us = [each for each in known if each.offer is not None and each.offer.to == user]
    ours = [] if offered else [each for each in known if everybody or each.user == user]
    if output is Format.TABLE or offered:
        ours += [each for each in to_us if each not in ours]
    _print(ours, output)
    if to_us and output is Format.TABLE:
        print_message(
            f"{counted(len(to_us), 'reservation')} offered to you: `icebus accept {to_us[0].id}` "
            "takes one, `icebus decline` does not"
        )


def extend(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[RESERVATION] DURATION",
            help="By how much, such as 15m; of which, unless $ICEBUS_RESERVATION names it or you "
            "hold one only.",
            show_default=False,
            autocompletion=complete_reservation,
        ),
    ],
    output: Output = Format.TABLE,
) -> None:
    """Move the end of a reservation further away; it never comes nearer.

    Examples:
      icebus extend 30m
      icebus extend 5f1c2e9a7b3d4c60 2h
    """
    if len(words) > 2:
        raise typer.BadParameter("give a reservation (or none) and a duration")
    seconds = duration_of(words[-1])
    with connect() as client:
        name = words[0] if len(words) == 2 else os.environ.get("ICEBUS_RESERVATION")
        before = chosen_reservation(client, name or None)
        after = client.extend(before.id, seconds)
    row = {
        "reservation": before.id,
        "before": before.until.isoformat(timespec="seconds"),
        "after": after.until.isoformat(timespec="seconds"),
    }
    columns = [
        Column("reservation"),
        Column("before", show=show_local_iso),
        Column("after", show=show_local_iso),
        Column("left", right=True),
    ]
    shown = row if output is not Format.TABLE else {**row, "left": _left(after)}
    print_rows([shown], columns, output, "reservation", EXTENDED)
    if (after.until - before.until).total_seconds() < seconds - ROUNDING:
        print_message("That is as far as the farm lets a reservation go.")


def chosen_reservation(client: BaseClient[Any], name: str | None) -> Reservation:
    """The reservation named, or the one that there is; those that only wait are no others.

    Raises:
        UnknownReservation: this user holds none such.
    """
    from icebus.schemas.errors import UnknownReservation

    held = client.reservations()
    found = [each for each in held if name in (None, each.id)]
    if name is None and any(each.queue is None for each in found):
        found = [each for each in found if each.queue is None]
    if not found:
        which = f"no reservation {name!r}" if name else "no reservation"
        raise UnknownReservation(
            f"you hold {which}; `icebus reservations` lists yours", reservation=name
        )
    if len(found) > 1:
        names = ", ".join(each.id for each in found)
        raise typer.BadParameter(f"you hold several reservations: name one of {names}")
    return found[0]


def holding_reservation(client: BaseClient[Any], serial: str) -> Reservation:
    """The reservation of the user that holds the board.

    Raises:
        DeviceNotHeld: none does.
    """
    from icebus.client._reservation.document import held
    from icebus.schemas.errors import DeviceNotHeld
    from icebus.schemas.ids import meant

    devices = {device.serial: each for each in client.reservations() for device in held(each)}
    [serial] = meant([serial], devices)
    if serial in devices:
        return devices[serial]
    has = f"you hold {', '.join(devices)}" if devices else "you hold none"
    raise DeviceNotHeld(
        f"you do not hold device {serial!r}; {has}; `icebus devices` shows who does, and "
        f"`icebus reserve --serial {serial}` reserves one that is free",
        serial=serial,
    )


def release(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RESERVATION [SERIAL]...]...",
            help="Reservations; of one that boards are named behind, only those.",
            autocompletion=complete_release,
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="All that are yours.")] = False,
) -> None:
    """Release reservations, or some of their boards, which become free at once.

    A reservation that waits in the queue gives up its place.

    Examples:
      icebus release 5f1c2e9a7b3d4c60
      icebus release 5f1c2e9a7b3d4c60 70B3D5A1 70B3D5A2
      icebus release --all
    """
    if bool(words) == everything:
        raise typer.BadParameter("give the ids of reservations, or --all")
    with connect() as client:
        chosen = _to_release(client, words or [])
        if not chosen:
            print_message("You hold no reservation.")
        for name, serials in chosen.items():
            client.end(name, serials or None)
            print_line(f"{' '.join(serials)} of {name} released" if serials else f"{name} released")


def _to_release(client: Client, words: Sequence[str]) -> dict[str, list[str]]:
    if len(words) == 1:
        return {words[0]: []}  # whatever it is, control knows it
    held = {each.id: [d.serial for d in each.devices] for each in client.reservations()}
    return by_reservation(words or list(held), held)


def by_reservation(words: Sequence[str], held: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The reservations that are named, and of each the devices that are named behind it.

    Args:
        words: ids of reservations and serials.
        held: the devices of the user's reservations.

    Raises:
        UnknownReservation: a word is neither; nothing is released then.
    """
    from icebus.schemas.errors import UnknownReservation
    from icebus.schemas.ids import meant

    named: dict[str, list[str]] = {}
    last = ""
    for word in words:
        [board] = meant([word], held.get(last, ()))
        if board in held.get(last, ()):
            named[last].append(board)
        elif word in held:
            last = word
            named.setdefault(word, [])
        else:
            which = f"neither a board of {last} nor" if last else "not"
            raise UnknownReservation(
                f"{word} is {which} a reservation of yours; `icebus reservations` lists them"
            )
    return named


def _print(found: list[Reservation], output: Format) -> None:
    columns = [
        Column("id"),
        Column("state"),
        Column("user"),
        Column("kind", minor=3),
        Column("left", right=True),
        Column("attached", minor=4),
        Column("devices", minor=2),
    ]
    rows = [_row(each) for each in found]
    if output is Format.TABLE:
        rows = [_shown(row, each) for row, each in zip(rows, found, strict=True)]
        if any(each.queue is not None for each in found):
            columns += [Column("position", right=True), Column("waits for", minor=1)]
        if any(each.offer is not None for each in found):
            columns.append(Column("offered to"))
    print_rows(rows, columns, output, "id", FIELDS)


def _row(document: Reservation) -> dict[str, Any]:
    row: dict[str, Any] = document.model_dump(mode="json")
    return {**row, "attached": document.client is not None}


def _shown(row: dict[str, Any], document: Reservation) -> dict[str, Any]:
    """A row for people: the devices that it has, and what a queued one waits for."""
    shown = {**row, "devices": _devices(document), "left": _left(document)}
    if document.offer is not None:
        shown["offered to"] = document.offer.to
    queue = document.queue
    if queue is None:
        return shown
    free = f"; free in {show_until(queue.estimate)}" if queue.estimate is not None else ""
    return {**shown, "position": queue.position, "waits for": f"{queue.reason}{free}"}


def _devices(document: Reservation) -> list[str]:
    from icebus.client._reservation.document import held
    from icebus.schemas.operations.reservations import HoldState

    return [
        f"{device.serial} (failed)" if device.state is HoldState.FAILED else device.serial
        for device in held(document)
    ]


def _left(document: Reservation) -> str:
    return show_until(document.until)
