"""Outcomes of evaluations on stdout, with the columns that the workers' schema of a kind gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from icebus.client.cli.json_schemas.kinds import columns, measured_fields
from icebus.client.cli.json_schemas.signatures import NUMERIC, types
from icebus.client.cli.output.printing import (
    Column,
    CsvPrinter,
    Format,
    plain,
    print_json,
    print_line,
    print_message,
    table,
)
from icebus.schemas.programs.logs import printable

if TYPE_CHECKING:
    from icebus.client._measuring_client import GenericResult
    from icebus.schemas.components import KindInfo
    from icebus.schemas.measuring import Failure, Outcome

FILE = "file"
"""Annotation that carries the path of a file, so that results find back to it."""


TIMES = ("queued", "waited", "configured", "at", "delivered")
"""Fields of outcomes that say when they were measured: what `icebus timeline` reads beside
``upload`` and ``window``."""


@dataclass(frozen=True)
class Sums:
    """That a table has a line for all measurements of a bitstream, rather than one for each.

    Attributes:
        each_board: whether for each board by itself.
    """

    each_board: bool


class OutcomePrinter:
    """Prints outcomes in the form asked for, at once or together at the end.

    Args:
        output: the form.
        info: the kind as workers offer it; None when none does.
        order: names of the bitstreams, in the order of a table.
        on_printed: called with each outcome once it stands on stdout.
        sums: how a table sums up measurements; None for not at all.

    Attributes:
        streams: whether outcomes are printed as they come.
        printed: outcomes so far.
        failed: how many of them have no result.
    """

    def __init__(
        self,
        output: Format,
        info: KindInfo | None,
        order: Sequence[str] = (),
        *,
        on_printed: Callable[[GenericResult | Failure], object],
        sums: Sums | None = None,
    ) -> None:
        measured = measured_fields(info)
        self.streams = output in (Format.JSONL, Format.CSV, Format.NAME)
        self.printed = 0
        self.failed = 0
        self._output = output
        self._names = [field.name for field in measured]
        self._measured = measured
        self._order = {name: index for index, name in enumerate(order)}
        self._on_printed = on_printed
        self._sums = sums
        self._rows: list[tuple[dict[str, Any], GenericResult | Failure]] = []
        self._messages: set[str] = set()
        self._csv = CsvPrinter(csv_fields(self._names)) if output is Format.CSV else None

    def print(self, outcome: GenericResult | Failure) -> None:
        """Print what is printed as soon as it comes; one trouble of a board is told once."""
        from icebus.schemas.measuring import Failure

        self.printed += 1
        if isinstance(outcome, Failure):
            self.failed += 1
            message = f"{outcome.serial}: {outcome.error}"
            if message not in self._messages:
                self._messages.add(message)
                print_message(outcome.told)
        row = as_row(outcome, self._names)
        if self._csv is not None:
            self._csv.row(row)
        elif self._output is Format.JSONL:
            print_json(row)
        elif not self.streams:
            # Without the bitstream's bytes, which would stay in memory with it.
            self._rows.append((row, outcome.with_source(None)))
            return
        elif "error" not in row:
            name = printable(outcome.bitstream)  # or a name with a newline were two
            print_line(" ".join([name, outcome.serial, *self._first(row)]))
        self._on_printed(outcome)

    def _first(self, row: Mapping[str, Any]) -> list[str]:
        """What was measured, in a word."""
        return [plain(row[name]) for name in self._names[:1]]

    def print_rest(self) -> None:
        """Print what is printed at the end: in the order of the files, whatever came first."""
        rows = sorted(
            (row for row, _ in self._rows),
            key=lambda row: (self._order.get(row["bitstream"], 0), row["serial"] or ""),
        )
        if self._output is Format.JSON:
            print_json(rows, indent=2)
        elif self._output is Format.TABLE and self._sums is not None and self._number is not None:
            self._print_sums(self._number, self._sums)
        elif self._output is Format.TABLE and (good := [row for row in rows if "error" not in row]):
            print_line(table(good, columns(self._measured, good)))
        for _, outcome in self._rows:
            self._on_printed(outcome)

    @property
    def _number(self) -> str | None:
        """The first thing measured that is a number; None where none is."""
        numbers = (each.name for each in self._measured if types(each.schema) & NUMERIC)
        return next(numbers, None)

    def _print_sums(self, number: str, sums: Sums) -> None:
        from icebus.client._evaluating.summary import summarise

        outcomes = [outcome for _, outcome in self._rows]
        found = summarise(outcomes, number, each_board=sums.each_board)
        found.sort(key=lambda each: (self._order.get(each.bitstream, 0), each.serial))
        rows = [
            {
                "bitstream": each.bitstream,
                "serial": each.serial,
                "n": each.n,
                f"median_{number}": each.median,
                "spread": each.spread,
                "failed": each.failures or None,
            }
            for each in found
        ]
        columns = [Column("bitstream"), *([Column("serial")] if sums.each_board else [])]
        columns += [Column("n", right=True), Column(f"median_{number}", _shown_number, right=True)]
        columns.append(Column("spread", _shown_number, right=True))
        if any(row["failed"] for row in rows):
            columns.append(Column("failed", right=True))
        print_line(table(rows, columns))


def _shown_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.10g}"


def csv_fields(measured: Sequence[str]) -> list[str]:
    """The keys of an outcome as CSV."""
    said = ["bitstream", "serial", *measured, "upload", "window", FILE, "evaluation", "error"]
    return [*said, *TIMES]


def as_row(outcome: Outcome, measured: Sequence[str]) -> dict[str, Any]:
    """An outcome for programs. A failure has ``error`` where a result has what was measured."""
    from icebus.schemas.measuring import Failure, Result

    row: dict[str, Any] = {
        "serial": outcome.serial or None,
        "bitstream": outcome.bitstream,
        FILE: outcome.annotations.get(FILE),
        "evaluation": outcome.evaluation,
    }
    times = {name: _iso(getattr(outcome, name, None)) for name in TIMES}
    if isinstance(outcome, Failure):
        return {**row, "error": outcome.error.info().model_dump(mode="json"), **times}
    if not isinstance(outcome, Result):
        return row
    return {
        **row,
        **{name: getattr(outcome, name, None) for name in measured},
        "upload": outcome.upload,
        "window": outcome.window,
        **times,
    }


def _iso(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
