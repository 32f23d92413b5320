"""``icebus call``."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icebus.client.cli.commands.reserving.reservations import holding_reservation
from icebus.client.cli.connecting import connect
from icebus.client.cli.options.completion import (
    complete_held_serial,
    complete_method,
    complete_reservation,
)
from icebus.client.cli.options.shared_options import duration as duration_of
from icebus.client.cli.output.printing import (
    Column,
    CsvPrinter,
    Format,
    print_json,
    print_line,
    print_message,
    print_rows,
    table,
)

if TYPE_CHECKING:
    from icebus.client._client import Client
    from icebus.client._connection.hook_runner import ReceivedEvent
    from icebus.client._reservation.reservation import Reservation
    from icebus.schemas.components import KindInfo, MethodInfo

FIELDS = ("event", "serial", "at", "data")

KNOWN = frozenset({"serial", "reservation"})
"""Fields of events that people know already: the line begins with the board they hold."""

FINISHED = "finished"
"""Event that says that a batch has ended, in kinds whose methods take a batch."""

BATCH = "batch"

GLANCE = 1.0
"""Seconds after which silence is a reason to look whether the board is still there."""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(call)


def call(
    serial: Annotated[
        str,
        typer.Argument(help="A board that you hold.", autocompletion=complete_held_serial),
    ],
    method: Annotated[
        str,
        typer.Argument(help="A method of what it is held for.", autocompletion=complete_method),
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE|KEY=@FILE|@FILE", help="What the method takes."),
    ] = None,
    reservation: Annotated[
        str | None,
        typer.Option(
            "--reservation",
            "-r",
            envvar="ICEBUS_RESERVATION",
            help="That holds the board. (default: found from the board)",
            autocompletion=complete_reservation,
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", "-f", help="Then print events of the board, until the batch is finished."
        ),
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(
            parser=duration_of,
            metavar="DURATION",
            help="How long to wait for the answer. (default: 30s)",
            show_default=False,
        ),
    ] = 30.0,
    output: Annotated[
        Format, typer.Option("--output", "-o", help="Form of what goes to stdout.")
    ] = Format.TABLE,
) -> None:
    """Call any method of a board that you hold, and print what it answers.

    `icebus kinds KIND` describes the methods. A value is JSON where the method wants something
    else than text; a key given repeatedly makes a list; @FILE is a file, for an argument that
    takes files its bytes. With --follow the answer goes to stderr and events to stdout, until the
    batch of the call is finished, or Ctrl-C where there is none.

    Examples:
      icebus call E6616407E308B9E2 status
      icebus call E6616407E308B9E2 evaluate @a.bin @b.bin --follow
      icebus call E6616407E308B9E2 evaluate bitstreams=@a.bin validate=false
    """
    from icebus.client.cli.json_schemas.arguments import parse
    from icebus.schemas.errors import IcebusError, InvalidRequest

    with connect() as client:
        # Other boards of the reservation need not be well.
        held = client.attach(
            reservation or holding_reservation(client, serial).id, ready=False, take_over=False
        )
        if (problem := held.problem(serial)) is not None:
            raise problem
        serial = held.device(serial).serial
        info = _offer(client, held, serial)
        wanted = _method(info, held.kind, method)
        given = parse(arguments or [], method, wanted.args, lambda path: Path(path).read_bytes())
        batch = _batch(info, wanted, given.args) if follow else None
        events: queue.SimpleQueue[ReceivedEvent] = queue.SimpleQueue()
        for name in info.events if follow else ():
            client.on(name)(events.put)
        try:
            told = client.call(
                held, [serial], method, given.args, files=given.files, timeout=timeout
            )
        except InvalidRequest as error:
            raise _with_signature(error, method, wanted) from None
        if (failed := told.errors.get(serial)) is not None:
            raise _with_signature(IcebusError.from_info(failed), method, wanted)
        answer = told.results.get(serial)
        if not follow:
            print_answer(answer, output)
            return
        print_message(_compact(answer))
        _print_events(_until_finished(events, held, serial, batch), output)


def _offer(client: Client, held: Reservation, serial: str) -> KindInfo:
    """What the worker of the board offers for the reservation's kind."""
    from icebus.client._farm.offers import find, merge

    worker = held.device(serial).worker
    theirs = {name: kinds for name, kinds in client.survey().kinds.items() if name == worker}
    return find(merge(theirs), held.kind)[0].info


def _method(info: KindInfo, kind: str, method: str) -> MethodInfo:
    from icebus.client._farm.offers import find_method

    return find_method(info, kind, method)


def _with_signature(error: Exception, method: str, wanted: MethodInfo) -> Exception:
    """The error, with how the method is called where it was called wrongly."""
    from icebus.client.cli.json_schemas.signatures import signature
    from icebus.schemas.errors import InvalidRequest

    if not isinstance(error, InvalidRequest):
        return error
    how = signature(method, wanted.args)
    return InvalidRequest(f"{error.message}; call it as {how}", **error.details)


def _batch(info: KindInfo, wanted: MethodInfo, args: dict[str, Any]) -> str | None:
    """The batch whose end is waited for, named here if it has no name; None without any."""
    from icebus.schemas.ids import new_id

    finished = info.events.get(FINISHED)
    if finished is None or BATCH not in finished.data.get("properties", {}):
        return None
    if BATCH not in wanted.args.get("properties", {}):
        return None
    return str(args.setdefault(BATCH, new_id()))


def _until_finished(
    events: queue.SimpleQueue[ReceivedEvent], held: Reservation, serial: str, batch: str | None
) -> Iterator[ReceivedEvent]:
    """Events of the board as they come, the last one that of the batch's end.

    Raises:
        IcebusError: the board or the reservation is lost.
    """
    while True:
        try:
            event = events.get(timeout=GLANCE)
        except queue.Empty:
            if (problem := held.problem(serial)) is not None:
                raise problem from None
            continue
        if event.serial != serial:
            continue
        yield event
        if event.name == FINISHED and batch is not None and event.data.get(BATCH) == batch:
            return


def print_answer(answer: Any, output: Format) -> None:
    """What a method returned: flat answers may be a table, all may be JSON."""
    flat = isinstance(answer, Mapping) and not any(isinstance(v, Mapping) for v in answer.values())
    match output:
        case Format.TABLE if flat and answer:
            print_line(table([answer], [Column(key) for key in answer]))
        case Format.CSV if isinstance(answer, Mapping):
            CsvPrinter(list(answer)).row(answer)
        case Format.JSONL:
            print_json(answer)
        case Format.NAME if flat:
            for key, value in answer.items():
                print_line(f"{key}={value if isinstance(value, str) else _compact(value)}")
        case _:
            print_json(answer, indent=2)


def _print_events(events: Iterator[ReceivedEvent], output: Format) -> None:
    rows = (_event(event) for event in events)
    match output:
        case Format.JSONL:
            for row in rows:
                print_json(row)
        case Format.CSV:
            printer = CsvPrinter(FIELDS)
            for row in rows:
                printer.row(row)
        case Format.TABLE:
            for row in rows:
                facts = " ".join(
                    f"{key}={_compact(value)}"
                    for key, value in row["data"].items()
                    if key not in KNOWN
                )
                print_line(f"{row['at'][11:23]}  {row['event']:<12}  {row['serial']}  {facts}")
        case _:
            print_rows(rows, [Column(key) for key in FIELDS], output, "event")


def _event(event: ReceivedEvent) -> dict[str, Any]:
    return {
        "event": event.name,
        "serial": event.serial,
        "at": event.at.isoformat(timespec="milliseconds"),
        "data": event.data,
    }


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True)
