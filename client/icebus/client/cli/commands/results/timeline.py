"""``icebus timeline``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from icebus.client.cli.commands.results.plotting import check_plot
from icebus.client.cli.commands.results.timeline_plot import draw
from icebus.client.cli.commands.results.timeline_rows import (
    BoardUse,
    Moments,
    NoTimelineError,
    board_uses,
    read_rows,
)
from icebus.client.cli.exit_codes import FAILED
from icebus.client.cli.output.printing import (
    Column,
    CsvPrinter,
    print_json,
    print_line,
    print_message,
    table,
)
from icebus.client.cli.stdin import STDIN

FIELDS = (
    *("serial", "bitstream", "evaluation", "error", "queued", "sent", "uploaded", "begun"),
    *("configured", "measured", "delivered"),
)
"""Fields of an evaluation."""


class TimelineFormat(StrEnum):
    """Form of a timeline."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(timeline)


def timeline(
    results: Annotated[
        Path, typer.Argument(help="What `-o jsonl` or `-o json` has printed; - is stdin.")
    ],
    picture: Annotated[
        Path | None, typer.Argument(metavar="[FILE.png]", help="Draw it into this file.")
    ] = None,
    output: Annotated[
        TimelineFormat,
        typer.Option("--output", "-o", help="A table of the boards; or of each evaluation, when."),
    ] = TimelineFormat.TABLE,
) -> None:
    """Show when evaluations were queued, sent, uploaded, configured, measured and delivered.

    It is made of what `icebus evaluate`, `map` or `results` have printed with -o jsonl or -o json.
    The picture has a lane for each board, in which gaps are time that it did nothing; the table
    says how much of a board's time that was. `--timeline` of those commands draws it at once.

    Moments are by the clock of the worker, and that of the delivery by the client's.

    Examples:
      icebus timeline results.jsonl timeline.png
      icebus evaluate -n 2 -o jsonl *.bin > results.jsonl
      icebus timeline results.jsonl -o jsonl | jq .sent
      icebus evaluate -n 2 -o jsonl *.bin | icebus timeline -
    """
    check_plot(picture, "the picture")
    with _reading(results) as lines:
        try:
            evaluations = list(read_rows(lines))
        except NoTimelineError as error:
            raise typer.BadParameter(f"{results}: {error}") from None
    drawn = picture is None or draw(picture, evaluations)
    _print(evaluations, output)
    if not drawn:
        raise typer.Exit(FAILED)


def _print(evaluations: list[Moments], output: TimelineFormat) -> None:
    uses = board_uses(evaluations)
    match output:
        case TimelineFormat.TABLE:
            print_line(table([_as_row(use) for use in uses], COLUMNS))
            if not evaluations:
                print_message("There are no outcomes in it.")
        case TimelineFormat.JSON:
            rows = [each.row() for each in evaluations]
            print_json({"boards": [asdict(use) for use in uses], "evaluations": rows}, indent=2)
        case TimelineFormat.JSONL:
            for each in evaluations:
                print_json(each.row())
        case TimelineFormat.CSV:
            printer = CsvPrinter(FIELDS)
            for each in evaluations:
                printer.row(each.row())


def _as_row(use: BoardUse) -> dict[str, Any]:
    return asdict(use)


def _share(value: float) -> str:
    return f"{value:.1%}"


def _span(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g} s"


COLUMNS = [
    Column("serial"),
    Column("evaluations", right=True),
    Column("failures", right=True, minor=3),
    Column("seconds", _span, right=True, minor=4),
    Column("measuring", _share, right=True),
    Column("configuring", _share, right=True, minor=5),
    Column("idle", _share, right=True),
    Column("longest_idle", _span, right=True, minor=1),
    Column("queued", _span, right=True, minor=2),
    Column("delivery", _span, right=True, minor=2),
]


@contextmanager
def _reading(path: Path) -> Iterator[TextIO]:
    """The lines of a file, or of stdin."""
    if path == STDIN:
        yield sys.stdin
        return
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            yield file
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror or error}") from None
