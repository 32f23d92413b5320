"""Options and arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from icebus.client.cli.durations import parse_duration
from icebus.client.cli.options.completion import (
    complete_kind,
    complete_measurement_argument,
    complete_measuring_kind,
    complete_reservation,
    complete_reservation_argument,
    complete_selector,
    complete_serial,
)
from icebus.client.cli.output.printing import Format

KIND = "pulsecount"
"""What boards are for, unless something else is said."""


def duration(text: str | float) -> float:
    """A duration as an option takes it: seconds, from what a person wrote."""
    try:
        return parse_duration(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def since_option(example: str, otherwise: str) -> Any:
    """The option ``--since``, whose value is seconds; see :func:`.durations.ago`.

    Args:
        example: of a duration that makes sense there.
        otherwise: what is told without it.
    """
    return typer.Option(
        parser=duration,
        metavar="DURATION",
        help=f"Not older than that, such as {example}. (default: {otherwise})",
        show_default=False,
    )


Output = Annotated[Format, typer.Option("--output", "-o", help="Form of what goes to stdout.")]
Kind = Annotated[
    str,
    typer.Option("--kind", "-k", help="What the boards are for.", autocompletion=complete_kind),
]
MeasuringKind = Annotated[
    str | None,
    typer.Option(
        "--kind",
        "-k",
        help="What the boards are to measure. (default: pulsecount)",
        autocompletion=complete_measuring_kind,
    ),
]
ReservationArgs = Annotated[
    list[str] | None,
    typer.Option(
        "--arg",
        metavar="NAME=VALUE",
        help="What the kind takes for a reservation; may be given repeatedly.",
        autocompletion=complete_reservation_argument,
    ),
]
MeasurementArgs = Annotated[
    list[str] | None,
    typer.Option(
        "--measure",
        metavar="NAME=VALUE",
        help="What the kind takes for a measurement; may be given repeatedly.",
        autocompletion=complete_measurement_argument,
    ),
]
Files = Annotated[
    list[Path],
    # Each that can't be read has an error of its own, whatever keeps it from being read.
    typer.Argument(
        help="Bitstreams (.bin) for the iCE40UP5K, folders of them, or quoted patterns such as "
        "'runs/*/best.bin'; - is stdin.",
        readable=False,
    ),
]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-R", help="Look into the folders in folders, too.")
]
Repeat = Annotated[
    int,
    typer.Option(
        "--repeat",
        min=1,
        metavar="TIMES",
        help="Measure each so many times. A table then has a line for each with number, median "
        "and spread (highest less lowest); other forms have each measurement.",
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        parser=duration,
        metavar="DURATION",
        help="End the run after so long, waiting for boards included: what was not measured by "
        "then is told, and the exit code is 124. (default: it takes as long as it takes)",
        show_default=False,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Say nothing on stderr but what went wrong, and no bar."),
]
ReservationId = Annotated[
    str | None,
    typer.Option(
        "--reservation",
        "-r",
        envvar="ICEBUS_RESERVATION",
        help="Whose boards to use. (default: the one that you hold)",
        autocompletion=complete_reservation,
    ),
]
Count = Annotated[
    int | None, typer.Option("--count", "-n", min=1, help="Reserve so many boards for this run.")
]
Serials = Annotated[
    list[str] | None,
    typer.Option(
        "--serial",
        "-s",
        help="Use only these boards; may be given repeatedly. (default: all of the reservation)",
        autocompletion=complete_serial,
    ),
]
Validate = Annotated[bool, typer.Option(help="Refuse bitstreams that would not configure an FPGA.")]
Selector = Annotated[
    str | None,
    typer.Option(
        "--selector",
        "-l",
        metavar="LABELS",
        help="Labels that boards must have, such as chip=rp2040,rack!=b. (default: any)",
        autocompletion=complete_selector,
    ),
]
PlotFile = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FILE.png",
        help="Also draw what was measured into this file: waveforms, or a number for each file.",
    ),
]
TimelineFile = Annotated[
    Path | None,
    typer.Option(
        "--timeline",
        metavar="FILE.png",
        help="Also draw into this file what each board did when, and how much of its time.",
    ),
]
Wait = Annotated[
    float | None,
    typer.Option(
        "--wait",
        parser=duration,
        metavar="DURATION",
        help="Stand in the queue for so long, if boards can't be had now. (default: not at all)",
        show_default=False,
    ),
]
Priority = Annotated[
    int,
    typer.Option(
        min=-100, max=100, help="Higher goes first in the queue; a minute of waiting adds one."
    ),
]
Replace = Annotated[
    bool, typer.Option("--replace", help="Replace a board that fails by another that is ready.")
]
