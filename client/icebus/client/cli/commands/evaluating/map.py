"""``icebus map``."""

from __future__ import annotations

import typer

from icebus.client.cli.commands.evaluating.measuring import BoardRequest, Measurement, measure
from icebus.client.cli.options.shared_options import (
    Count,
    Files,
    MeasurementArgs,
    MeasuringKind,
    Output,
    PlotFile,
    Priority,
    Quiet,
    Recursive,
    Repeat,
    Replace,
    ReservationArgs,
    ReservationId,
    Selector,
    Serials,
    TimelineFile,
    Timeout,
    Validate,
    Wait,
)
from icebus.client.cli.output.printing import QUIET, Format


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(map)


def map(  # noqa: A001 - the command's name
    files: Files,
    reservation: ReservationId = None,
    count: Count = None,
    serial: Serials = None,
    kind: MeasuringKind = None,
    arg: ReservationArgs = None,
    measure_arg: MeasurementArgs = None,
    selector: Selector = None,
    wait: Wait = None,
    priority: Priority = 0,
    replace: Replace = False,
    validate: Validate = True,
    recursive: Recursive = False,
    repeat: Repeat = 1,
    timeout: Timeout = None,
    plot: PlotFile = None,
    timeline: TimelineFile = None,
    quiet: Quiet = False,
    output: Output = Format.TABLE,
) -> None:
    """Evaluate every bitstream once, on whichever board is free, and print what was measured.

    Boards are found as for `evaluate`, and --kind, --arg and --measure are as there. What a board
    owes when it fails goes to the others, and a board that comes back takes part again, as does one
    that replaces it.

    Examples:
      icebus map -n 8 population
      icebus map -n 8 --recursive --quiet -o csv runs > counts.csv
      icebus map -n 4 *.bin -o csv > counts.csv
      icebus map -n 8 --wait 2h --replace population/*.bin
    """
    request = BoardRequest(
        kind, reservation, count, serial or [], selector, wait, priority, replace, arg or []
    )
    measurement = Measurement(
        files,
        measure_arg or [],
        validate,
        on_each=False,
        plot=plot,
        recursive=recursive,
        repeats=repeat,
        timeout=timeout,
        timeline=timeline,
    )
    QUIET.set(quiet)
    measure(measurement, request, output)
