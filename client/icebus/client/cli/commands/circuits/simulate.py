"""``icebus simulate``."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from icebus.client.cli.commands.evaluating.bitstream_files import find_files
from icebus.client.cli.exit_codes import FAILED
from icebus.client.cli.options.shared_options import Files, Output
from icebus.client.cli.options.shared_options import duration as duration_of
from icebus.client.cli.output.printing import (
    Column,
    CsvPrinter,
    Format,
    Row,
    print_json,
    print_line,
    print_message,
    table,
)
from icebus.client.cli.output.progress import step_progress
from icebus.client.cli.stdin import STDIN, read_stdin, telling_what_is_read
from icebus.schemas.programs.logs import printable
from icebus.schemas.wording import counted

FIELDS = ("file", "pulses", "exact", "note", "driver", "blocks", "error")
"""Fields of a row; all are always there."""

PARALLEL_FROM = 100
"""Files from which on several processes pay: each takes half a second to get ready."""

_BLOCKS = {
    "luts": "LUT",
    "flip_flops": "FF",
    "carries": "carry",
    "block_rams": "BRAM",
    "sprams": "SPRAM",
    "dsps": "DSP",
    "plls": "PLL",
    "oscillators": "oscillator",
    "ios": "IO",
    "others": "other",
}
"""What blocks of the FPGA are called in the table."""


def _show_blocks(blocks: dict[str, int] | None) -> str:
    used = (
        [f"{blocks[key]} {name}" for key, name in _BLOCKS.items() if blocks[key]] if blocks else []
    )
    return ", ".join(used) or "-"


_COLUMNS = [
    Column("file"),
    Column("pulses", right=True),
    Column("exact"),
    Column("driver", minor=2),
    Column("blocks", _show_blocks, minor=3),
    Column("note", minor=1),
]


@dataclass(frozen=True)
class Question:
    """What is asked of every bitstream.

    Attributes:
        window: seconds that are counted.
        pin: whose pulses.
        seed: of the delays.
    """

    window: float
    pin: int
    seed: int


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(simulate)


def simulate(
    files: Files,
    window: Annotated[
        float,
        typer.Option(parser=duration_of, metavar="DURATION", help="For how long to count."),
    ] = 1.0,
    pin: Annotated[
        int, typer.Option(help="Pin of the SG48 package to count on; boards count on 27, ICE_27.")
    ] = 27,
    seed: Annotated[
        int, typer.Option(help="Stands for one board's delays; matters to loops of gates only.")
    ] = 0,
    output: Output = Format.TABLE,
) -> None:
    """Count the pulses that bitstreams give, on this machine, without a farm.

    Decodes each bitstream and simulates its circuit, as virtual boards do: what happens within
    the first clocks after configuration, in which the FPGA wakes up, is not counted.
    Tells whether the count is exact, what drives the pin, and which blocks of the FPGA are used.
    What it can't tell is an error that names the reason.

    Examples:
      icebus simulate blink.bin
      icebus simulate --window 0.05 population/*.bin -o csv > counts.csv
      icebus simulate --pin 39 blink.bin -o json
    """
    files = [each.path for each in find_files(files)]
    _prepare(pin)
    question = Question(window, pin, seed)
    printer = Printer(output)
    with step_progress("simulating", len(files), streams=printer.streams) as step:
        for row in _rows(files, question):
            printer.tell(row)
            step()
    printer.conclude()
    if printer.failed:
        print_message(f"icebus: {printer.failed} of {counted(len(files), 'bitstream')} not counted")
        raise typer.Exit(FAILED)


def _prepare(pin: int) -> None:
    """Make sure that bitstreams can be read, before the first one is.

    Raises:
        ProgramMissing: the virtual FPGA isn't installed.
        DecoderUnavailable: there is no chip database.
    """
    from icebus.schemas.programs.installation import not_importable

    try:
        from icebus import fpga
    except ImportError as error:
        raise not_importable(error, "simulating", "virtual") from error
    if pin not in fpga.PINS:
        raise typer.BadParameter(f"pin {pin} is no IO; these are: {' '.join(map(str, fpga.PINS))}")
    fpga.prepare()


def _rows(files: Sequence[Path], question: Question) -> Iterator[Row]:
    """What there is to tell of each file, in their order."""
    ask = partial(answer, question=question, piped=read_stdin(files))
    if len(files) < PARALLEL_FROM:
        yield from map(ask, files)
        return
    from icebus.schemas.errors import InternalError

    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(os.cpu_count() or 1, context, _leave_interrupts_to_the_command)
    try:
        yield from pool.map(ask, files)
    except BrokenProcessPool as error:
        raise InternalError(f"a process that simulates has died: {error}") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_the_command() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def answer(path: Path, question: Question, piped: bytes | None = None) -> Row:
    """What there is to tell of one file; never raises, as every file has a row."""
    from icebus import fpga
    from icebus.client._evaluating.bitstreams import read_file
    from icebus.schemas.boards.bitstream import normalise
    from icebus.schemas.errors import IcebusError, InternalError

    row: dict[str, Any] = dict.fromkeys(FIELDS) | {"file": str(path), "note": ""}
    try:
        if path == STDIN and piped is not None:
            bitstream = piped
        else:
            with telling_what_is_read(path):
                bitstream = read_file(path)
        inspection = fpga.inspect(bitstream, pin=question.pin)
        told = normalise(bitstream).note  # what a farm would say of it
        row |= {"driver": inspection.driver, "blocks": asdict(inspection.blocks)}
        result = fpga.simulate(bitstream, question.window, seed=question.seed, pin=question.pin)
        note = "; ".join(filter(None, (told, result.note)))
        row |= {"pulses": result.pulses, "exact": result.exact, "note": note}
    except IcebusError as error:
        row["error"] = error.info().model_dump(mode="json")
    except Exception as error:  # noqa: BLE001 (one file's trouble is not the others')
        row["error"] = InternalError(f"simulation failed: {error!r}").info().model_dump(mode="json")
    return row


class Printer:
    """Prints rows in the form asked for, at once or together at the end.

    Attributes:
        streams: whether at once.
        failed: rows without a count so far.
    """

    def __init__(self, output: Format) -> None:
        self.streams = output in (Format.JSONL, Format.CSV, Format.NAME)
        self.failed = 0
        self._output = output
        self._rows: list[Row] = []
        self._csv = CsvPrinter(FIELDS) if output is Format.CSV else None

    def tell(self, row: Row) -> None:
        """Print a row, if it is to be printed at once."""
        if row["error"] is not None:
            self.failed += 1
            print_message(f"{row['file']}: {row['error']['message']}")
        if self._csv is not None:
            self._csv.row(row)
        elif self._output is Format.JSONL:
            print_json(row)
        elif not self.streams:
            self._rows.append(row)
        elif row["error"] is None:
            print_line(f"{printable(str(row['file']))} {row['pulses']}")

    def conclude(self) -> None:
        """Print what is printed at the end."""
        if self._output is Format.JSON:
            print_json(self._rows, indent=2)
        elif self._output is Format.TABLE:
            print_line(table(self._rows, _COLUMNS))
