"""Data on stdout: tables for people, JSON for programs. Everything else goes to stderr."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import typer

from icebus.client.cli.output.streams import takes_unicode
from icebus.schemas.programs.logs import printable

Row = Mapping[str, Any]

_OBEYED = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")
"""What stands in JSON as it is and is obeyed by terminals: of C1, direction, line and width."""


class Format(StrEnum):
    """Form of a list."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    NAME = "name"


def plain(value: Any) -> str:
    """A value as people read it."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return " ".join(map(plain, value)) or "-"
    if isinstance(value, Mapping):
        return " ".join(f"{key}={plain(each)}" for key, each in value.items()) or "-"
    return str(value)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: of the row.
        show: how its value reads.
        right: whether it is aligned to the right, as numbers are.
        minor: 0 where it is never left out; of others the highest go first, where a terminal is
            too narrow for all.
    """

    key: str
    show: Callable[[Any], str] = plain
    right: bool = False
    minor: int = 0

    @property
    def title(self) -> str:
        """What stands above it."""
        return self.key.upper().replace("_", " ")


def table(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Rows in aligned columns without lines around them; only the title when there are none.

    On a terminal, minor columns that it has no room for are left out.
    """
    width = _terminal_width()
    while True:
        cells = [[column.title for column in columns]]
        cells += [[column.show(row.get(column.key)) for column in columns] for row in rows]
        text = aligned(cells, [column.right for column in columns])
        least = max(columns, key=lambda column: column.minor)
        if not least.minor or max(map(len, text.splitlines())) <= width:
            return text
        columns = [column for column in columns if column is not least]


def _terminal_width() -> float:
    """Columns of the terminal that is written to; no limit where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else math.inf


def can_draw() -> bool:
    """Whether stdout is a terminal that can be drawn on anew; a dumb one would show nothing."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in {"", "dumb", "unknown"}


def aligned(rows: Sequence[Sequence[str]], right: Sequence[bool] = ()) -> str:
    """Cells in columns that line up; ``right`` says which columns end rather than begin together.

    A column without anything in it takes no room.
    """
    cells = [[_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    ends = right or [False] * len(widths)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if end else cell.ljust(width)
            for cell, width, end in zip(line, widths, ends, strict=True)
            if width
        ).rstrip()
        for line in cells
    )


def _line(text: str) -> str:
    """One line, whatever the network sent: no escape sequence reaches the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def print_line(text: str, colour: str | None = None) -> None:
    """A line on stdout, at once; a terminal obeys nothing in it, programs get it as it is.

    Args:
        text: may have several lines.
        colour: on a terminal, unless $NO_COLOR says otherwise.
    """
    if sys.stdout.isatty():
        text = printable(text.removesuffix("\r"), keep="\n")
        if colour is not None and not os.environ.get("NO_COLOR"):
            text = typer.style(text, fg=colour)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_message(text: str) -> None:
    """Lines for people, on stderr; nothing in them is obeyed by a terminal.

    Nothing depends on whether they can be written.
    """
    with contextlib.suppress(OSError):
        sys.stderr.write(printable(text, "\n\t") + "\n")
        sys.stderr.flush()


QUIET: ContextVar[bool] = ContextVar("quiet", default=False)
"""Whether only what went wrong is to be said on stderr."""


def print_note(text: str) -> None:
    """Lines for people that say how things go, which nobody misses who asked for quiet."""
    if not QUIET.get():
        print_message(text)


def print_json(value: Any, *, indent: int | None = None) -> None:
    """A value as JSON on stdout; None and empty values stay, so that the shape never changes."""
    text = json.dumps(value, indent=indent, default=str, ensure_ascii=not takes_unicode())
    # JSON itself escapes only the first 32 of what terminals obey.
    print_line(_OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def csv_line(cells: Iterable[Any]) -> str:
    """A record as RFC 4180 has it, without the line's end.

    What is nothing stays empty, and what has parts is JSON text, so that a record has one line
    unless a text in it has several.
    """
    written = io.StringIO()
    csv.writer(written).writerow([_cell(cell) for cell in cells])
    return written.getvalue().removesuffix("\r\n")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


class CsvPrinter:
    """Rows as CSV on stdout, each at once; the line of names comes first.

    Args:
        fields: the keys of the rows to print, in this order; a row may lack some.
    """

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = fields
        self._print(fields)

    def row(self, row: Row) -> None:
        """Print a row."""
        self._print([row.get(key) for key in self._fields])

    def _print(self, cells: Sequence[Any]) -> None:
        print_line(csv_line(cells) + "\r")


def print_rows(
    rows: Iterable[Row],
    columns: Sequence[Column],
    form: Format,
    name: str,
    fields: Sequence[str] = (),
) -> None:
    """Rows in the form asked for.

    Args:
        rows: what to print.
        columns: of the table.
        form: the form.
        name: the key that names a row.
        fields: the keys of a row for CSV; those of the columns by default.
    """
    listed = list(rows)
    match form:
        case Format.TABLE:
            print_line(table(listed, columns))
        case Format.JSON:
            print_json(listed, indent=2)
        case Format.JSONL:
            for row in listed:
                print_json(row)
        case Format.CSV:
            printer = CsvPrinter(fields or [column.key for column in columns])
            for row in listed:
                printer.row(row)
        case Format.NAME:
            for row in listed:
                print_line(str(row[name]))
