"""How objects show themselves: in one line, and as HTML where notebooks look.

What is shown comes from the network, so all of it is escaped: for terminals, and for browsers.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from html import escape

from icebus.schemas.programs.logs import printable, shortened

LONGEST_VALUE = 200
"""Characters of a value that are shown."""

MOST_ROWS = 200
"""Rows of a table that are shown: a farm may have thousands of boards."""

_STYLE = 'style="text-align:left;vertical-align:top"'

_short = reprlib.Repr()
_short.maxlist = _short.maxtuple = _short.maxdict = 6
_short.maxstring = _short.maxother = LONGEST_VALUE


def brief(value: object) -> str:
    """A value as Python writes it, not too long.

    >>> brief("a"), brief([1] * 500)
    ("'a'", '[1, 1, 1, 1, 1, 1, ...]')
    """
    return shortened(printable(_short.repr(value)), LONGEST_VALUE)


def named_values(values: Iterable[tuple[str, object]]) -> str:
    """Values and their names, as Python writes arguments.

    >>> named_values([("pulses", 7), ("note", "a")])
    "pulses=7, note='a'"
    """
    return ", ".join(f"{printable(name)}={brief(value)}" for name, value in values)


def as_html(value: object) -> str:
    """A value for a page: text as it is, all else as Python writes it.

    >>> as_html("<b>"), as_html(7)
    ('&lt;b&gt;', '7')
    """
    text = shortened(printable(value), LONGEST_VALUE) if isinstance(value, str) else brief(value)
    return escape(text)


def html_values(caption: str, values: Iterable[tuple[str, object]]) -> str:
    """A table of values and their names."""
    rows = [
        f"<tr><th {_STYLE}>{as_html(name)}</th><td {_STYLE}>{as_html(value)}</td></tr>"
        for name, value in values
    ]
    return _table(caption, rows)


def html_rows(caption: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with a row for each of several things."""
    head = "".join(f"<th {_STYLE}>{as_html(column)}</th>" for column in columns)
    body = [
        "<tr>" + "".join(f"<td {_STYLE}>{as_html(value)}</td>" for value in row) + "</tr>"
        for row in rows[:MOST_ROWS]
    ]
    if len(rows) > MOST_ROWS:
        body.append(f'<tr><td colspan="{len(columns)}">… {len(rows) - MOST_ROWS} more</td></tr>')
    return _table(caption, [f"<tr>{head}</tr>", *body])


def _table(caption: str, rows: Iterable[str]) -> str:
    told = f'<caption style="text-align:left">{as_html(caption)}</caption>'
    return f"<table>{told}{''.join(rows)}</table>"
