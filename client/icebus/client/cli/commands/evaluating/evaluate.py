"""``icebus evaluate``."""

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
    app.command()(evaluate)


def evaluate(
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
    """Evaluate every bitstream on every board, and print what was measured: the pulses counted.

    Uses the reservation named, else that of yours which holds the boards named by --serial, else
    reserves COUNT boards or those for the run, else uses the one reservation you hold, else
    reserves one board for the run. What is said of boards to reserve (--selector, --wait,
    --priority, --replace, --arg) has it reserve.

    With --kind boards measure something else; `icebus kinds KIND` tells what, and which arguments a
    reservation (--arg) and a measurement (--measure) take.

    What a board that fails owes, fails. With --replace another then takes its place for what was
    not begun on it.

    Examples:
      icebus evaluate blink.bin
      icebus evaluate -n 4 *.bin -o json > counts.json
      icebus evaluate --reservation 5f1c2e9a7b3d4c60 a.bin b.bin
      icebus evaluate --measure window=0.1 --measure pins=27 --measure pins=25 blink.bin
      icebus evaluate --kind variance --plot waveforms.png *.bin
      icebus evaluate -n 4 --timeline timeline.png *.bin
      icebus evaluate --repeat 5 --timeout 10m population
      icebus evaluate -n 2 -l chip=rp2350 --wait 1h *.bin
    """
    request = BoardRequest(
        kind, reservation, count, serial or [], selector, wait, priority, replace, arg or []
    )
    measurement = Measurement(
        files,
        measure_arg or [],
        validate,
        on_each=True,
        plot=plot,
        recursive=recursive,
        repeats=repeat,
        timeout=timeout,
        timeline=timeline,
    )
    QUIET.set(quiet)
    measure(measurement, request, output)
