"""What ``icebus evaluate`` and ``icebus map`` share: boards to measure on, and measuring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import typer

from icebus.client.cli.commands.evaluating.bitstream_reading import (
    BitstreamFiles,
    names_of_bitstreams,
    open_files,
)
from icebus.client.cli.commands.evaluating.expected import Expected
from icebus.client.cli.commands.results.outcomes import OutcomePrinter, Sums
from icebus.client.cli.commands.results.plotting import check_plot, plotting, with_waveform
from icebus.client.cli.commands.results.timeline_plot import drawing_timeline
from icebus.client.cli.connecting import connect_measuring
from icebus.client.cli.exit_codes import FAILED, OK, TIMED_OUT
from icebus.client.cli.json_schemas.kinds import measurement_args, measuring_kind, reservation_args
from icebus.client.cli.options.shared_options import KIND
from icebus.client.cli.output.printing import Format, print_message, print_note
from icebus.client.cli.output.progress import queue_messages, run_progress, waiting_message
from icebus.schemas.wording import counted

if TYPE_CHECKING:
    from icebus.client._evaluating.bitstreams import Bitstream
    from icebus.client._evaluating.boards import MeasuringBoards
    from icebus.client._measuring_client import GenericMeasuringClient, GenericResult
    from icebus.schemas.components import KindInfo
    from icebus.schemas.deadline import Deadline

Bitstreams: TypeAlias = "Sequence[Bitstream] | BitstreamFiles"


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
        recursive: whether folders in folders are looked into.
        repeats: how often each is measured.
        timeout: seconds for all of it; None for as long as it takes.
    """

    files: Sequence[Path]
    args: Sequence[str]
    validate: bool
    on_each: bool
    plot: Path | None = None
    timeline: Path | None = None
    recursive: bool = False
    repeats: int = 1
    timeout: float | None = None

    @property
    def deadline(self) -> Deadline | None:
        """When all of it has to be over; from now."""
        from icebus.schemas.deadline import Deadline

        return None if self.timeout is None else Deadline.after(self.timeout)


def measure(measurement: Measurement, request: BoardRequest, output: Format) -> None:
    """Measure bitstreams and print what comes of it.

    Raises:
        typer.Exit: some have no result, or the time was up.
    """
    from icebus.schemas.errors import DeadlineExceeded, NotEnoughDevices

    if request.count is not None and request.serials:
        raise typer.BadParameter("give either how many (-n) or which (--serial)")
    check_plot(measurement.plot)
    check_plot(measurement.timeline, "--timeline")
    deadline = measurement.deadline
    bitstreams = open_files(
        measurement.files, validate=measurement.validate, recursive=measurement.recursive
    )
    with connect_measuring(request.kind or "") as client, ExitStack() as stack:
        kinds = client.kinds()
        if request.kind is not None:
            # What is wrong is told before anything is reserved.
            measurement_args(request.kind, measuring_kind(kinds, request.kind), measurement.args)
        try:
            boards = stack.enter_context(_boards(client, request, kinds, deadline))
        except (DeadlineExceeded, NotEnoughDevices) as error:
            if deadline is None or not deadline.expired:
                raise
            why = "" if isinstance(error, DeadlineExceeded) else f": {error.message}"
            print_message(f"icebus: the time was up before there were boards{why}")
            raise typer.Exit(TIMED_OUT) from None
        info = measuring_kind(kinds, boards.kind)
        code = _run(
            client, boards, bitstreams, measurement, request.serials, info, output, deadline
        )
    if code:
        raise typer.Exit(code)


def _run(
    client: GenericMeasuringClient,
    boards: MeasuringBoards[GenericResult],
    bitstreams: Bitstreams,
    measurement: Measurement,
    serials: Sequence[str],
    info: KindInfo,
    output: Format,
    deadline: Deadline | None,
) -> int:
    """Measure on boards that are held; returns the exit code."""
    from icebus.client._evaluating.running.withdrawing import in_words
    from icebus.schemas.errors import DeadlineExceeded

    names = names_of_bitstreams(bitstreams)
    # As they are called, whatever case they were typed in.
    named = [boards.device(each).serial for each in serials]
    chosen = named or boards.serials
    copies = chosen if measurement.on_each else [""]
    expected = Expected(names, copies, measurement.repeats)
    printer = OutcomePrinter(
        output,
        info,
        names,
        on_printed=boards.acknowledge,
        sums=None if measurement.repeats == 1 else Sums(each_board=measurement.on_each),
    )
    given = measurement_args(boards.kind, info, measurement.args)
    args = with_waveform(info, given, measurement.plot)
    print_note(
        f"{counted(expected.total, 'evaluation')} on {' '.join(chosen)} (reservation {boards.id})"
    )
    run = boards.evaluate_outcomes if measurement.on_each else boards.map_outcomes
    timed_out = False
    try:
        with (
            plotting(measurement.plot, info, names) as plot,
            drawing_timeline(measurement.timeline) as times,
            run_progress("evaluating", expected.total, streams=printer.streams) as progress,
        ):
            outcomes = run(
                bitstreams,
                serials=named or None,
                args=args,
                validate=measurement.validate,
                repeats=measurement.repeats,
                timeout=None if deadline is None else deadline.remaining,
                progress=progress,
                acknowledge=False,
            )
            try:
                with closing(outcomes):
                    for outcome in outcomes:
                        expected.note(outcome)
                        printer.print(outcome)
                        if plot is not None:
                            plot.add(outcome)
                        if times is not None:
                            times.add(outcome)
            except DeadlineExceeded:
                if deadline is None or not deadline.expired:
                    raise
                timed_out = True
    finally:
        # Also what came before Ctrl-C, or before the farm was gone.
        printer.print_rest()
        if boards.withdrawn is not None:
            # One that was made for this run is released when it ends.
            kept = boards.document.client != client.id
            print_message(f"icebus: {in_words(boards.withdrawn, kept=kept)}")
    if timed_out:
        print_message(f"icebus: the time is up: {expected.missing_in_words()}")
    if printer.failed:
        print_message(f"icebus: {printer.failed} of {printer.printed} evaluations failed")
    if timed_out:
        return TIMED_OUT
    undrawn = any(each is not None and each.failed for each in (plot, times))
    return FAILED if printer.failed or undrawn else OK


@contextmanager
def _boards(
    client: GenericMeasuringClient,
    request: BoardRequest,
    kinds: Mapping[str, KindInfo],
    deadline: Deadline | None,
) -> Iterator[MeasuringBoards[GenericResult]]:
    """The boards to use: of a reservation that is held, or of one for this run only."""
    from icebus.client._client import PREPARE_TIMEOUT

    kind = request.kind or KIND
    reservation = None if request.reserves else request.reservation
    serials = list(request.serials)
    if reservation is None and serials and not request.makes_anew:
        reservation = holding(client, request.kind, serials)
    elif reservation is None and not request.reserves:
        reservation = _held(client, kind)
    if reservation is not None:
        with waiting_message(f"waiting for reservation {reservation}"):
            boards = client.attach(
                reservation, take_over=False, keep_alive=True, timeout=_at_most(30.0, deadline)
            )
    else:
        args = reservation_args(kind, measuring_kind(kinds, kind), request.args)
        with queue_messages(client, "preparing boards", request.wait):
            boards = client.reserve(
                request.count,
                serials=serials or None,
                selector=request.selector,
                kind=kind,
                args=args,
                wait=_at_most(request.wait or 0.0, deadline),
                timeout=_at_most(PREPARE_TIMEOUT, deadline),
                priority=request.priority,
                replace=request.replace,
            )
    with boards:
        for serial in serials:
            boards.device(serial)
        yield boards


def _at_most(seconds: float, deadline: Deadline | None) -> float:
    """So many seconds, or as many as there are."""
    return seconds if deadline is None else min(seconds, deadline.remaining)


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
