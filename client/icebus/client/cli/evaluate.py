"""``icebus evaluate``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icebus.client.cli.common import KIND, Output, connect
from icebus.client.cli.output import Column, Format, print_json, print_line, say, table
from icebus.client.cli.problems import FAILED
from icebus.client.cli.progress import counting, waiting

if TYPE_CHECKING:
    from icebus.client.bitstreams import Bitstream
    from icebus.client.outcomes import Outcome
    from icebus.client.pulsecount import Boards, PulseCountClient

_COLUMNS = [
    Column("bitstream"),
    Column("serial"),
    Column("pulses", right=True),
    Column("exact"),
    Column("note"),
]

FILE = "file"
"""Annotation that carries the path of a file, so that results find back to it."""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(evaluate)


def evaluate(
    files: Annotated[list[Path], typer.Argument(help="Bitstreams (.bin) for the iCE40UP5K.")],
    reservation: Annotated[
        str | None,
        typer.Option(
            "--reservation", "-r", envvar="ICEBUS_RESERVATION", help="Whose boards to use."
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="Reserve so many for this run.")
    ] = None,
    serial: Annotated[
        list[str] | None, typer.Option("--serial", "-s", help="Use only these boards.")
    ] = None,
    validate: Annotated[
        bool, typer.Option(help="Refuse bitstreams that would not configure an FPGA.")
    ] = True,
    output: Output = Format.TABLE,
) -> None:
    """Evaluate every bitstream on every board, and print the pulses counted.

    Uses the reservation named, else reserves COUNT boards or those named by --serial for the run,
    else uses the one reservation you hold, else reserves one board for the run.

    Examples:
      icebus evaluate blink.bin
      icebus evaluate -n 4 *.bin -o json > counts.json
      icebus evaluate --reservation 5f1c2e9a7b3d4c60 a.bin b.bin
    """
    if count is not None and serial:
        raise typer.BadParameter("give either how many (-n) or which (--serial)")
    bitstreams = read_all(files, validate=validate)
    if count is not None:
        reservation = None
    with connect() as client, _boards(client, reservation, count, serial or []) as boards:
        chosen = serial or boards.serials
        total = len(bitstreams) * len(chosen)
        plural = "" if total == 1 else "s"
        say(f"{total} evaluation{plural} on {' '.join(chosen)} (reservation {boards.id})")
        outcomes: list[Outcome] = []
        complaints: set[str] = set()
        streams = output in (Format.JSONL, Format.NAME)
        with counting("evaluating", total, streams=streams) as step:
            for outcome in boards.outcomes(bitstreams, serials=chosen, validate=validate):
                step()
                outcomes.append(outcome)
                _tell(outcome, output, complaints)
    failed = _conclude(outcomes, bitstreams, output)
    if failed:
        say(f"icebus: {failed} of {len(outcomes)} evaluations failed")
        raise typer.Exit(FAILED)


def read_all(files: Sequence[Path], *, validate: bool) -> list[Bitstream]:
    """The bitstreams in the files; all that is wrong with any is told before anything is reserved.

    Raises:
        InvalidRequest: a file can't be read.
        BitstreamInvalid: a file holds no valid bitstream.
    """
    from icebus.client.bitstreams import Bitstream
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
def _boards(
    client: PulseCountClient, reservation: str | None, count: int | None, serials: list[str]
) -> Iterator[Boards]:
    """The boards to use: of a reservation that is held, or of one for this run only."""
    if reservation is None and count is None and not serials:
        reservation = _held(client)
    if reservation is not None:
        with waiting(f"waiting for reservation {reservation}"):
            boards = client.attach(reservation, keep_alive=True)
    else:
        with waiting("preparing boards"):
            boards = client.reserve(count, serials=serials or None)
    with boards:
        for serial in serials:
            boards.device(serial)
        yield boards


def _held(client: PulseCountClient) -> str | None:
    """The one reservation that waits for work of this user."""
    held = [each.id for each in client.reservations() if each.client is None and each.kind == KIND]
    if len(held) > 1:
        raise typer.BadParameter(
            f"you hold several reservations ({', '.join(held)}): name one with --reservation, or "
            "reserve boards for this run with -n"
        )
    return held[0] if held else None


def _tell(outcome: Outcome, output: Format, complaints: set[str]) -> None:
    """What is told of an outcome as soon as it comes; one trouble of a board is told once."""
    from icebus.client.outcomes import Failure

    if isinstance(outcome, Failure):
        complaint = f"{outcome.serial}: {outcome.error}"
        if complaint not in complaints:
            complaints.add(complaint)
            say(f"{outcome.bitstream} on {complaint}")
    if output is Format.JSONL:
        print_json(as_json(outcome))
    elif output is Format.NAME and not isinstance(outcome, Failure):
        print_line(f"{outcome.bitstream} {outcome.serial} {outcome.pulses}")


def _conclude(outcomes: Sequence[Outcome], bitstreams: Sequence[Bitstream], output: Format) -> int:
    """Print what is told at the end; returns how many failed."""
    order = {bitstream.name: index for index, bitstream in enumerate(bitstreams)}
    rows = [as_json(outcome) for outcome in outcomes]
    rows.sort(key=lambda row: (order[row["bitstream"]], row["serial"]))
    good = [row for row in rows if "error" not in row]
    if output is Format.JSON:
        print_json(rows, indent=2)
    elif output is Format.TABLE and good:
        print_line(table([{**row, "note": _note(row)} for row in good], _COLUMNS))
    return len(rows) - len(good)


def _note(row: dict[str, Any]) -> str:
    """What a reader of the table should know of a count."""
    if row["cdone"] is False:
        return "the FPGA refused the bitstream (CDONE low)"
    return str(row["note"])


def as_json(outcome: Outcome) -> dict[str, Any]:
    """An outcome for programs. A failure has ``error`` where a result has ``pulses``."""
    from icebus.client.outcomes import Result

    told: dict[str, Any] = {
        "serial": outcome.serial,
        "bitstream": outcome.bitstream,
        FILE: outcome.annotations.get(FILE),
        "evaluation": outcome.evaluation,
    }
    if not isinstance(outcome, Result):
        return {**told, "error": outcome.error.info().model_dump(mode="json")}
    return {
        **told,
        "pulses": outcome.pulses,
        "exact": outcome.exact,
        "cdone": outcome.cdone,
        "note": outcome.note,
        "upload": outcome.upload,
        "window": outcome.window,
    }
