"""What ``icebus evaluate`` and ``icebus map`` share: boards to measure on, and measuring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from icebus.client.cli.connecting import connect_measuring
from icebus.client.cli.exit_codes import FAILED
from icebus.client.cli.kind_schemas import measurement_args, measuring_kind, reservation_args
from icebus.client.cli.options import KIND
from icebus.client.cli.outcomes import FILE, OutcomePrinter
from icebus.client.cli.output import Format, print_message
from icebus.client.cli.plotting import check_plot, plotting, with_waveform
from icebus.client.cli.progress import queue_messages, run_progress, waiting_message
from icebus.client.cli.stdin import STDIN, read_stdin, telling_what_is_read
from icebus.client.cli.timeline_plot import drawing_timeline
from icebus.schemas.wording import counted

if TYPE_CHECKING:
    from icebus.client._evaluating.bitstreams import Bitstream
    from icebus.client._evaluating.boards import MeasuringBoards
    from icebus.client._measuring_client import GenericMeasuringClient, GenericResult
    from icebus.schemas.components import KindInfo


@dataclass(frozen=True)
class BoardRequest:
    """The boards to measure on.

    Attributes:
        kind: what they are for, if said.
        reservation: whose boards to use, if one is named.
        count: boards to reserve for the run, if said.
        serials: the only boards to use; all, when none is named.
        selector: labels that they must have.
        wait: seconds to stand in the queue for them.
        priority: there.
        replace: whether boards that fail are replaced.
        args: what the kind asks for, as ``name=value``.
    """

    kind: str | None
    reservation: str | None
    count: int | None
    serials: Sequence[str]
    selector: str | None
    wait: float | None
    priority: int
    replace: bool
    args: Sequence[str]

    @property
    def reserves(self) -> bool:
        """Whether it says anything that only a reservation for the run can meet."""
        return self.makes_anew or bool(self.wait or self.priority)

    @property
    def makes_anew(self) -> bool:
        """Whether it says what boards that are held already may not have been reserved with."""
        return any((self.count, self.selector, self.replace, self.args))


@dataclass(frozen=True)
class Measurement:
    """What to measure, and how.

    Attributes:
        files: the bitstreams.
        args: what the kind takes for a measurement, as ``name=value``.
        validate: whether to refuse broken bitstreams.
        on_each: whether each is measured on each board, else on any one.
        plot: where to draw what was measured.
        timeline: where to draw when.
    """

    files: Sequence[Path]
    args: Sequence[str]
    validate: bool
    on_each: bool
    plot: Path | None = None
    timeline: Path | None = None


def measure(measurement: Measurement, request: BoardRequest, output: Format) -> None:
    """Measure bitstreams and print what comes of it.

    Raises:
        typer.Exit: some have no result.
    """
    from icebus.client._evaluating.withdrawing import in_words

    if request.count is not None and request.serials:
        raise typer.BadParameter("give either how many (-n) or which (--serial)")
    check_plot(measurement.plot)
    check_plot(measurement.timeline, "--timeline")
    bitstreams = read_all(measurement.files, validate=measurement.validate)
    with connect_measuring(request.kind or "") as client:
        kinds = client.kinds()
        if request.kind is not None:
            # What is wrong is told before anything is reserved.
            measurement_args(request.kind, measuring_kind(kinds, request.kind), measurement.args)
        with _boards(client, request, kinds) as boards:
            info = measuring_kind(kinds, boards.kind)
            names = [each.name for each in bitstreams]
            printer = OutcomePrinter(output, info, names, on_printed=boards.acknowledge)
            given = measurement_args(boards.kind, info, measurement.args)
            args = with_waveform(info, given, measurement.plot)
            # As they are called, whatever case they were typed in.
            named = [boards.device(each).serial for each in request.serials]
            chosen = named or boards.serials
            total = len(bitstreams) * (len(chosen) if measurement.on_each else 1)
            print_message(
                f"{counted(total, 'evaluation')} on {' '.join(chosen)} (reservation {boards.id})"
            )
            run = boards.evaluate_outcomes if measurement.on_each else boards.map_outcomes
            try:
                with (
                    plotting(measurement.plot, info, names) as plot,
                    drawing_timeline(measurement.timeline) as times,
                    run_progress("evaluating", total, streams=printer.streams) as progress,
                ):
                    outcomes = run(
                        bitstreams,
                        serials=named or None,
                        args=args,
                        validate=measurement.validate,
                        progress=progress,
                        acknowledge=False,
                    )
                    with closing(outcomes):
                        for outcome in outcomes:
                            printer.print(outcome)
                            if plot is not None:
                                plot.add(outcome)
                            if times is not None:
                                times.add(outcome)
            finally:
                # Also what came before Ctrl-C, or before the farm was gone.
                printer.print_rest()
                if boards.withdrawn is not None:
                    # One that was made for this run is released when it ends.
                    kept = boards.document.client != client.id
                    print_message(f"icebus: {in_words(boards.withdrawn, kept=kept)}")
    if printer.failed:
        print_message(f"icebus: {printer.failed} of {printer.printed} evaluations failed")
    undrawn = any(each is not None and each.failed for each in (plot, times))
    if printer.failed or undrawn:
        raise typer.Exit(FAILED)


def read_all(files: Sequence[Path], *, validate: bool) -> list[Bitstream]:
    """The bitstreams in the files; all that is wrong with any is told before anything is reserved.

    Raises:
        InvalidRequest: a file can't be read.
        BitstreamInvalid: a file holds no valid bitstream.
    """
    from icebus.client._evaluating.bitstreams import Bitstream
    from icebus.client._json_values import printable
    from icebus.schemas.errors import IcebusError

    piped = read_stdin(files)
    names = [path.name for path in files]
    bitstreams: list[Bitstream] = []
    problems: list[IcebusError] = []
    for path in files:
        # Files of one name from several folders are told apart by their paths.
        name = path.name if names.count(path.name) == 1 else str(path)
        try:
            if path == STDIN and piped is not None:
                read = Bitstream.of(piped, "stdin", {FILE: str(path)}, validate=validate)
            else:
                # A folder's name may be no text that JSON can carry.
                named = {FILE: printable(str(path))}
                with telling_what_is_read(path):
                    read = Bitstream.read(path, named, name=name, validate=validate)
            read.check()
        except IcebusError as error:
            problems.append(error)
        else:
            bitstreams.append(read)
    for problem in problems[:-1]:
        print_message(f"icebus: {problem.message}")
    if problems:
        raise problems[-1]
    return bitstreams


@contextmanager
def _boards(
    client: GenericMeasuringClient, request: BoardRequest, kinds: Mapping[str, KindInfo]
) -> Iterator[MeasuringBoards[GenericResult]]:
    """The boards to use: of a reservation that is held, or of one for this run only."""
    kind = request.kind or KIND
    reservation = None if request.reserves else request.reservation
    serials = list(request.serials)
    if reservation is None and serials and not request.makes_anew:
        reservation = holding(client, request.kind, serials)
    elif reservation is None and not request.reserves:
        reservation = _held(client, kind)
    if reservation is not None:
        with waiting_message(f"waiting for reservation {reservation}"):
            boards = client.attach(reservation, take_over=False, keep_alive=True)
    else:
        args = reservation_args(kind, measuring_kind(kinds, kind), request.args)
        with queue_messages(client, "preparing boards", request.wait):
            boards = client.reserve(
                request.count,
                serials=serials or None,
                selector=request.selector,
                kind=kind,
                args=args,
                wait=request.wait or 0.0,
                priority=request.priority,
                replace=request.replace,
            )
    with boards:
        for serial in serials:
            boards.device(serial)
        yield boards


def _held(client: GenericMeasuringClient, kind: str) -> str | None:
    """The one reservation that waits for work of this user; of another kind, it is only told."""
    idle = [each for each in client.reservations() if each.client is None and each.queue is None]
    held = [each.id for each in idle if each.kind == kind]
    if not held and idle:
        kinds = " or ".join(sorted({each.kind for each in idle}))
        print_message(
            f"reserving a board for {kind}: those that you hold are for {kinds}; "
            f"`--kind {idle[0].kind}` uses them"
        )
    if len(held) > 1:
        raise typer.BadParameter(
            f"you hold several reservations ({', '.join(held)}): name one with --reservation, or "
            "reserve boards for this run with -n"
        )
    return held[0] if held else None


def holding(client: GenericMeasuringClient, kind: str | None, serials: Sequence[str]) -> str | None:
    """The reservation of this user that holds all those boards; None where none holds any."""
    from icebus.client._reservation.document import held
    from icebus.schemas.ids import meant

    boards = {board.serial: each for each in client.reservations() for board in held(each)}
    wanted = dict.fromkeys(meant(serials, boards))
    ours = {serial: boards[serial] for serial in wanted if serial in boards}
    if not ours:
        return None
    first, *others = {each.id: each for each in ours.values()}.values()
    lacking = [serial for serial in wanted if serial not in ours]
    if others or lacking:
        told = [f"{serial} is in reservation {each.id}" for serial, each in ours.items()]
        told += [f"{serial} in none" for serial in lacking]
        raise typer.BadParameter(
            f"of the boards that you name, {', '.join(told)}: evaluate on those of each by "
            "themselves"
        )
    if kind not in (None, first.kind):
        raise typer.BadParameter(
            f"you hold {' '.join(ours)} for {first.kind} (reservation {first.id}): `--kind "
            f"{first.kind}` uses that, `icebus release {first.id}` lets go of it"
        )
    return first.id
