"""``icebus logs``."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icebus.client.cli.connecting import connect
from icebus.client.cli.durations import ago, show_local
from icebus.client.cli.options.completion import complete_serial, complete_worker
from icebus.client.cli.options.shared_options import since_option
from icebus.client.cli.output.printing import print_json, print_line, print_message

if TYPE_CHECKING:
    from icebus.client._client import Client
    from icebus.client._logs.lines import LogLine
    from icebus.client._logs.stream import LogStream


LOOK_TIME = 2.0
"""Seconds for the farm to say which devices it has: lines are shown without that, too."""


class LinesFormat(StrEnum):
    """Form of lines."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"


class Level(StrEnum):
    """From which level on."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


_COLOURS = {Level.WARNING: "yellow", Level.ERROR: "red", Level.CRITICAL: "red"}

_SHOWN_ANYWAY = frozenset({"serial", "state", "port"})
"""Fields that a message says in words."""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(logs)


def logs(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is logged, until Ctrl-C.")
    ] = False,
    level: Annotated[Level, typer.Option(case_sensitive=False, help="From which on.")] = Level.INFO,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            "-s",
            metavar="SERIAL",
            help="About a board.",
            autocompletion=complete_serial,
        ),
    ] = None,
    worker: Annotated[
        str | None, typer.Option(help="Of a worker.", autocompletion=complete_worker)
    ] = None,
    since: Annotated[float | None, since_option("10m", "all that is kept")] = None,
    output: Annotated[LinesFormat, typer.Option("--output", "-o", help="Form.")] = (
        LinesFormat.TEXT
    ),
) -> None:
    """Show what the farm's components log: the latest lines of each, oldest first.

    Administrators see all; users what workers log about boards that they hold, since they hold
    them; observers nothing. Warnings are kept longer than other lines; all of it is in the log on
    the component's machine.

    Examples:
      icebus logs --level warning --since 1h
      icebus logs -f --device 70B3D5A1
      icebus logs -f -o jsonl | jq 'select(.level == "error")'
    """
    if follow and output is LinesFormat.JSON:
        raise typer.BadParameter(
            "what is followed has no end, and no list of it: say -o jsonl", param_hint="--output"
        )
    with (
        connect() as client,
        client.logs(
            follow=follow,
            level=level.value,
            serial=_named(client, device),
            worker=worker,
            since=ago(since),
        ) as lines,
    ):
        if follow and not lines.everything:
            print_message("lines about boards that you hold, as they come; Ctrl-C ends")
        if output is LinesFormat.JSON:
            print_json([as_row(each) for each in lines], indent=2)
            return
        if not _print(lines, output) and not follow:
            print_message(_nothing(lines, device, worker))


def _named(client: Client, device: str | None) -> str | None:
    """The serial that is meant, in whatever case.

    One that the farm does not have is told, no more: there may be lines of when it had it.
    """
    from icebus.schemas.errors import IcebusError
    from icebus.schemas.ids import meant

    if device is None:
        return None
    try:
        known = [each.report.serial for each in client.devices(timeout=LOOK_TIME)]
    except IcebusError:
        return device  # lines are kept by the broker: they are told while control is away, too
    [serial] = meant([device], known)
    if serial not in known:
        print_message(f"icebus: the farm has no device {device!r} now; `icebus devices` lists them")
    return serial


def _print(lines: LogStream, output: LinesFormat) -> int:
    count = 0
    for count, each in enumerate(lines, start=1):  # noqa: B007 - of the last one
        if output is LinesFormat.JSONL:
            print_json(as_row(each))
        else:
            print_line(as_text(each), _COLOURS.get(Level(each.level)))
    return count


def _nothing(lines: LogStream, device: str | None, worker: str | None) -> str:
    if not lines.everything:
        return (
            "There are no lines about boards that you hold, and of others only administrators are "
            "told; `icebus reservations` lists what you hold."
        )
    about = [f"about {device}"] * (device is not None) + [f"of {worker}"] * (worker is not None)
    return f"There are no such lines {' '.join(about)}".rstrip() + "."


def as_row(line: LogLine) -> dict[str, Any]:
    """A line as JSON has it: always the same names."""
    return {
        "at": line.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": line.level.value,
        "role": line.role,
        "component": line.component,
        "logger": line.logger,
        "message": line.message,
        "serial": line.serial,
        "fields": dict(line.fields),
        "traceback": list(line.traceback),
    }


def as_text(line: LogLine) -> str:
    """A line for people; those of a traceback are indented."""
    who = line.role if line.role == line.component else f"{line.role} {line.component}"
    more = " ".join(
        f"{name}={value}"
        for name, value in line.fields.items()
        if name not in _SHOWN_ANYWAY and str(value) not in line.message
    )
    said = f"{show_local(line.at)}  {line.level.value:<8}  {who:<16}  {line.message}"
    said += f"  ({more})" if more else ""
    return "\n".join([said, *(f"  | {each}" for each in line.traceback)])
