"""``icebus evaluate``, and what it shares with ``icebus map``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icebus.client.cli.common import KIND, Output, Priority, Replace, Selector, Wait, connect
from icebus.client.cli.completion import complete_reservation, complete_serial
from icebus.client.cli.exit_codes import FAILED
from icebus.client.cli.output import Column, CsvPrinter, Format, print_json, print_line, say, table
from icebus.client.cli.progress import following, queueing, waiting
from icebus.schemas.wording import counted

if TYPE_CHECKING:
    from icebus.client._evaluating.bitstreams import Bitstream
    from icebus.client.kinds.pulsecount import Boards, PulseCountClient
    from icebus.schemas.measuring import Outcome

_COLUMNS = [
    Column("bitstream"),
    Column("serial"),
    Column("pulses", right=True),
    Column("exact"),
    Column("note"),
]

FILE = "file"
"""Annotation that carries the path of a file, so that results find back to it."""

FIELDS = (
    *("bitstream", "serial", "pulses", "exact", "cdone", "note", "upload", "window"),
    *(FILE, "evaluation", "error"),
)
"""Fields of an outcome as CSV."""

Files = Annotated[list[Path], typer.Argument(help="Bitstreams (.bin) for the iCE40UP5K.")]
ReservationId = Annotated[
    str | None,
    typer.Option(
        "--reservation",
        "-r",
        envvar="ICEBUS_RESERVATION",
        help="Whose boards to use.",
        autocompletion=complete_reservation,
    ),
]
Count = Annotated[
    int | None, typer.Option("--count", "-n", min=1, help="Reserve so many for this run.")
]
Serials = Annotated[
    list[str] | None,
    typer.Option("--serial", "-s", help="Use only these boards.", autocompletion=complete_serial),
]
Validate = Annotated[bool, typer.Option(help="Refuse bitstreams that would not configure an FPGA.")]


@dataclass(frozen=True)
class Terms:
    """What is asked of the boards.

    Attributes:
        count: boards to reserve for the run, if said.
        serials: the only boards to use; all, when none is named.
        selector: labels that they must have.
        wait: seconds to stand in the queue for them.
        priority: there.
        replace: whether boards that fail are replaced.
    """

    count: int | None
    serials: Sequence[str]
    selector: str | None
    wait: float | None
    priority: int
    replace: bool

    @property
    def reserve(self) -> bool:
        """Whether they say anything that only a reservation for the run can meet."""
        return bool(self.count or self.selector or self.wait or self.priority or self.replace)


@dataclass(frozen=True)
class Wanted:
    """What to measure, and on which boards.

    Attributes:
        files: the bitstreams.
        reservation: whose boards to use, if one is named.
        terms: what is asked of the boards.
        validate: whether to refuse broken bitstreams.
        output: form of what goes to stdout.
    """

    files: Sequence[Path]
    reservation: str | None
    terms: Terms
    validate: bool
    output: Format


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(evaluate)


def evaluate(
    files: Files,
    reservation: ReservationId = None,
    count: Count = None,
    serial: Serials = None,
    selector: Selector = None,
    wait: Wait = None,
    priority: Priority = 0,
    replace: Replace = False,
    validate: Validate = True,
    output: Output = Format.TABLE,
) -> None:
    """Evaluate every bitstream on every board, and print the pulses counted.

    Uses the reservation named, else reserves COUNT boards or those named by --serial for the run,
    else uses the one reservation you hold, else reserves one board for the run. What is said of
    boards to reserve (--selector, --wait, --priority, --replace) has it reserve.

    What a board that fails owes, fails. With --replace another then takes its place for what was
    not begun on it.

    Examples:
      icebus evaluate blink.bin
      icebus evaluate -n 4 *.bin -o json > counts.json
      icebus evaluate --reservation 5f1c2e9a7b3d4c60 a.bin b.bin
      icebus evaluate -n 2 -l chip=rp2350 --wait 1h *.bin
    """
    terms = Terms(count, serial or [], selector, wait, priority, replace)
    measure(Wanted(files, reservation, terms, validate, output), each=True)


def measure(wanted: Wanted, *, each: bool) -> None:
    """Measure bitstreams and print what comes of it.

    Args:
        wanted: what is wanted.
        each: whether on each board, else on any one.

    Raises:
        typer.Exit: some have no result.
    """
    terms = wanted.terms
    if terms.count is not None and terms.serials:
        raise typer.BadParameter("give either how many (-n) or which (--serial)")
    bitstreams = read_all(wanted.files, validate=wanted.validate)
    with connect() as client, _boards(client, wanted) as boards:
        chosen = terms.serials or boards.serials
        total = len(bitstreams) * (len(chosen) if each else 1)
        what = counted(total, "evaluation")
        say(f"{what} on {' '.join(chosen)} (reservation {boards.id})")
        run = boards.evaluate_outcomes if each else boards.map_outcomes
        printer = Printer(wanted.output, [each.name for each in bitstreams])
        with following("evaluating", total, streams=printer.streams) as progress:
            for outcome in run(
                bitstreams,
                serials=terms.serials or None,
                validate=wanted.validate,
                progress=progress,
            ):
                printer.tell(outcome)
    printer.conclude()
    if printer.failed:
        say(f"icebus: {printer.failed} of {printer.told} evaluations failed")
        raise typer.Exit(FAILED)


def read_all(files: Sequence[Path], *, validate: bool) -> list[Bitstream]:
    """The bitstreams in the files; all that is wrong with any is told before anything is reserved.

    Raises:
        InvalidRequest: a file can't be read.
        BitstreamInvalid: a file holds no valid bitstream.
    """
    from icebus.client._evaluating.bitstreams import Bitstream
    from icebus.schemas.errors import IcebusError

    names = [path.name for path in files]
    bitstreams: list[Bitstream] = []
    problems: list[IcebusError] = []
    for path in files:
        # Files of one name from several folders are told apart by their paths.
        name = path.name if names.count(path.name) == 1 else str(path)
        try:
            read = Bitstream.read(path, {FILE: str(path)}, name=name, validate=validate)
            read.check()
        except IcebusError as error:
            problems.append(error)
        else:
            bitstreams.append(read)
    for problem in problems[:-1]:
        say(f"icebus: {problem.message}")
    if problems:
        raise problems[-1]
    return bitstreams


@contextmanager
def _boards(client: PulseCountClient, wanted: Wanted) -> Iterator[Boards]:
    """The boards to use: of a reservation that is held, or of one for this run only."""
    terms = wanted.terms
    reservation = None if terms.reserve else wanted.reservation
    serials = list(terms.serials)
    if reservation is None and not terms.reserve and not serials:
        reservation = _held(client)
    if reservation is not None:
        with waiting(f"waiting for reservation {reservation}"):
            boards = client.attach(reservation, take_over=False, keep_alive=True)
    else:
        with queueing(client, "preparing boards", terms.wait):
            boards = client.reserve(
                terms.count,
                serials=serials or None,
                selector=terms.selector,
                wait=terms.wait or 0.0,
                priority=terms.priority,
                replace=terms.replace,
            )
    with boards:
        for serial in serials:
            boards.device(serial)
        yield boards


def _held(client: PulseCountClient) -> str | None:
    """The one reservation that waits for work of this user."""
    held = [
        each.id
        for each in client.reservations()
        if each.client is None and each.kind == KIND and each.queue is None
    ]
    if len(held) > 1:
        raise typer.BadParameter(
            f"you hold several reservations ({', '.join(held)}): name one with --reservation, or "
            "reserve boards for this run with -n"
        )
    return held[0] if held else None


class Printer:
    """Prints outcomes in the form asked for, at once or together at the end.

    Attributes:
        told: outcomes so far.
        failed: how many of them have no result.
    """

    def __init__(self, output: Format, order: Sequence[str] = ()) -> None:
        self.streams = output in (Format.JSONL, Format.CSV, Format.NAME)
        self.told = 0
        self.failed = 0
        self._output = output
        self._order = {name: index for index, name in enumerate(order)}
        self._rows: list[dict[str, Any]] = []
        self._complaints: set[str] = set()
        self._csv = CsvPrinter(FIELDS) if output is Format.CSV else None

    def tell(self, outcome: Outcome) -> None:
        """Print what is told as soon as it comes; one trouble of a board is told once."""
        from icebus.schemas.measuring import Failure

        self.told += 1
        if isinstance(outcome, Failure):
            self.failed += 1
            complaint = f"{outcome.serial}: {outcome.error}"
            if complaint not in self._complaints:
                self._complaints.add(complaint)
                say(f"{outcome.where}: {outcome.error}")
        row = as_json(outcome)
        if self._csv is not None:
            self._csv.row(row)
        elif self._output is Format.JSONL:
            print_json(row)
        elif not self.streams:
            self._rows.append(row)
        elif "error" not in row:
            print_line(f"{outcome.bitstream} {outcome.serial} {row['pulses']}")

    def conclude(self) -> None:
        """Print what is told at the end: in the order of the files, whatever came first."""
        rows = sorted(
            self._rows, key=lambda row: (self._order.get(row["bitstream"], 0), row["serial"] or "")
        )
        if self._output is Format.JSON:
            print_json(rows, indent=2)
        elif self._output is Format.TABLE:
            good = [{**row, "note": _note(row)} for row in rows if "error" not in row]
            if good:
                print_line(table(good, _COLUMNS))


def _note(row: dict[str, Any]) -> str:
    """What a reader of the table should know of a count."""
    if row["cdone"] is False:
        return "the FPGA refused the bitstream (CDONE low)"
    return str(row["note"])


def as_json(outcome: Outcome) -> dict[str, Any]:
    """An outcome for programs. A failure has ``error`` where a result has ``pulses``."""
    from icebus.schemas.kinds.pulsecount import PulseCountResult
    from icebus.schemas.measuring import Failure

    told: dict[str, Any] = {
        "serial": outcome.serial or None,
        "bitstream": outcome.bitstream,
        FILE: outcome.annotations.get(FILE),
        "evaluation": outcome.evaluation,
    }
    if isinstance(outcome, Failure):
        return {**told, "error": outcome.error.info().model_dump(mode="json")}
    if not isinstance(outcome, PulseCountResult):
        return told
    return {
        **told,
        "pulses": outcome.pulses,
        "exact": outcome.exact,
        "cdone": outcome.cdone,
        "note": outcome.note,
        "upload": outcome.upload,
        "window": outcome.window,
    }
