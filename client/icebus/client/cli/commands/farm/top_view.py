"""What ``icebus top`` looks like: a document of :mod:`.top_state`, drawn with rich."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from icebus.client.cli.durations import show_until
from icebus.client.cli.output.printing import plain
from icebus.schemas.programs.logs import printable
from icebus.schemas.wording import counted, show_duration

Row = dict[str, Any]

BAD = {"broken", "quarantined", "absent", "lost", "unanswering"}
WARNING = {"draining", "init", "testing", "flashing"}

HEADER = 5
"""Lines above the tables, one of which may need two."""

LONGEST_REASON = 80


@dataclass(frozen=True)
class Section:
    """A table with a title.

    Attributes:
        title: above it.
        columns: their titles; those that end together are in ``right``.
        rows: the cells of all there are.
        right: which columns have numbers.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[str] = frozenset()


def view(document: Row, where: str, height: int | None) -> Group:
    """What is shown of the farm.

    Args:
        document: of the farm.
        where: the farm is, and who looks.
        height: lines that there are; None for as many as it takes.
    """
    parts: list[Text | Table] = [*_header(document, where)]
    sections = [each for each in _sections(document) if each.rows]
    wanted = [len(each.rows) for each in sections]
    # A title, the names of the columns, and an empty line between two.
    room = None if height is None else height - HEADER - 3 * len(sections)
    for section, shown in zip(sections, allot(wanted, room), strict=True):
        parts += [Text(""), _title(section, shown), _table(section, shown)]
    return Group(*parts)


def allot(wanted: Sequence[int], room: int | None) -> list[int]:
    """How many rows each table has: what it wants, or an even share of what the others leave.

    Args:
        wanted: by each.
        room: rows for all; None for as many as they want.
    """
    if room is None:
        return list(wanted)
    given = [0] * len(wanted)
    left = max(0, room)
    while left:
        hungry = [place for place, count in enumerate(wanted) if given[place] < count]
        if not hungry:
            break
        for place in hungry[:left]:
            given[place] += 1
        left -= min(left, len(hungry))
    return given


def _header(document: Row, where: str) -> list[Text]:
    at = datetime.fromisoformat(document["at"]).astimezone()
    first = Text(f"icebus top  {printable(where)}  {at:%H:%M:%S}", style="bold")
    away, leader = document["away"], document["leader"]
    if away is not None:
        status = Text(printable(away["reason"]), style="bold red")
    elif leader is None:
        status = Text("no control leads: nobody can reserve; `icebus doctor`", style="bold red")
    else:
        status = Text(f"control {printable(leader)} leads")
    boards = document["boards"]
    states = Text(f"{counted(sum(boards.values()), 'board')}: ")
    for place, (state, count) in enumerate(boards.items()):
        states.append(", " if place else "")
        states.append(f"{count} {state}", style=_style(state))
    return [first, status, states, _evaluations(document)]


def _evaluations(document: Row) -> Text:
    results, failures = document["results_per_second"], document["failures_per_second"]
    text = Text(f"{_rate(results)} results/s, ")
    share = f" ({failures / (results + failures):.1%})" if results and failures else ""
    text.append(f"{_rate(failures)} failures/s{share}", style="red" if failures else "")
    text.append(f", {counted(document['queued_evaluations'], 'evaluation')} queued")
    return text


def _sections(document: Row) -> list[Section]:
    return [
        _section(
            "Workers",
            document["workers"],
            {
                "worker": _of("worker"),
                "state": _of("state"),
                "boards": _of("boards"),
                "serving": _of("serving"),
                "queued": _of("queued"),
                "results/s": lambda row: _rate(row["results_per_second"]),
                "failures/s": lambda row: _rate(row["failures_per_second"]),
                "heartbeat": lambda row: (
                    "-" if row["heartbeat"] is None else f"{row['heartbeat']:g}s"
                ),
            },
            right={"boards", "serving", "queued", "results/s", "failures/s", "heartbeat"},
        ),
        _section(
            "Who holds boards",
            document["holders"],
            {
                "user": _of("user"),
                "boards": _of("boards"),
                "kinds": _of("kinds"),
                "waiting": lambda row: plain(row["queued"] or None),
                "first ends in": lambda row: (
                    "-"
                    if row["until"] is None
                    else show_until(datetime.fromisoformat(row["until"]))
                ),
            },
            right={"boards", "waiting"},
        ),
        _section(
            "Queue",
            document["queue"],
            {
                "#": _of("position"),
                "user": _of("user"),
                "kind": _of("kind"),
                "for": lambda row: show_duration(row["seconds"]),
                "waits for": _of("reason"),
            },
            right={"#"},
        ),
        _section(
            "Boards that need somebody",
            document["troubled"],
            {
                "board": _of("serial"),
                "state": _of("state"),
                "for": lambda row: _since(row["since"], document["at"]),
                "reason": _of("reason"),
            },
        ),
        _section(
            "Your slowest boards",
            document["slowest"],
            {"board": _of("serial"), "results/s": lambda row: _rate(row["results_per_second"])},
            right={"results/s"},
        ),
    ]


def _section(
    title: str,
    rows: Sequence[Row],
    columns: dict[str, Callable[[Row], str]],
    right: set[str] | None = None,
) -> Section:
    cells = [[show(row) for show in columns.values()] for row in rows]
    return Section(title, list(columns), cells, frozenset(right or ()))


def _of(key: str) -> Callable[[Row], str]:
    return lambda row: plain(row[key])


def _since(since: str, now: str) -> str:
    passed = datetime.fromisoformat(now) - datetime.fromisoformat(since)
    return show_duration(passed.total_seconds())


def _until(moment: str | None) -> str:
    return "-" if moment is None else show_until(datetime.fromisoformat(moment))


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _title(section: Section, shown: int) -> Text:
    hidden = len(section.rows) - shown
    title = Text(section.title, style="bold")
    if hidden:
        title.append(f"  ({hidden} more)", style="dim")
    return title


def _table(section: Section, shown: int) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="dim")
    for name in section.columns:
        table.add_column(
            name.upper(),
            justify="right" if name in section.right else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in section.rows[:shown]:
        table.add_row(*(_cell(each) for each in row))
    return table


def _cell(text: str) -> Text:
    """A cell in which nothing is obeyed by the terminal, whatever the network sent."""
    return Text(printable(text)[:LONGEST_REASON], style=_style(text))


def _style(state: str) -> str:
    return "red" if state in BAD else "yellow" if state in WARNING else ""
