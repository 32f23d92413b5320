"""Data on stdout: tables for people, JSON for programs. Everything else goes to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Row = Mapping[str, Any]


class Format(StrEnum):
    """Form of a list."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    NAME = "name"


def _plain(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return " ".join(map(_plain, value)) or "-"
    return str(value)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: of the row.
        show: how its value reads.
        right: whether it is aligned to the right, as numbers are.
    """

    key: str
    show: Callable[[Any], str] = _plain
    right: bool = False

    @property
    def title(self) -> str:
        """What stands above it."""
        return self.key.upper().replace("_", " ")


def table(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Rows in aligned columns without lines around them; only the title when there are none."""
    cells = [[column.title for column in columns]]
    cells += [[_line(column.show(row.get(column.key))) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in cells
    )


def _line(text: str) -> str:
    """One line, whatever the network sent: no escape sequence reaches the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def print_line(text: str) -> None:
    """A line on stdout, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A line for people, on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def print_json(value: Any, *, indent: int | None = None) -> None:
    """A value as JSON on stdout; None and empty values stay, so that the shape never changes."""
    print_line(json.dumps(value, indent=indent, default=str, ensure_ascii=False))


def print_rows(rows: Iterable[Row], columns: Sequence[Column], form: Format, name: str) -> None:
    """Rows in the form asked for; ``name`` is the key that names a row."""
    listed = list(rows)
    match form:
        case Format.TABLE:
            print_line(table(listed, columns))
        case Format.JSON:
            print_json(listed, indent=2)
        case Format.JSONL:
            for row in listed:
                print_json(row)
        case Format.NAME:
            for row in listed:
                print_line(str(row[name]))
