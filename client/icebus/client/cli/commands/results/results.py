"""``icebus results``."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from icebus.client.cli.commands.reserving.reservations import chosen_reservation
from icebus.client.cli.commands.results.outcomes import OutcomePrinter
from icebus.client.cli.commands.results.plotting import check_plot, plotting
from icebus.client.cli.commands.results.timeline_plot import drawing_timeline
from icebus.client.cli.connecting import connect_measuring
from icebus.client.cli.exit_codes import FAILED
from icebus.client.cli.options.completion import complete_reservation
from icebus.client.cli.options.shared_options import Output, PlotFile, TimelineFile
from icebus.client.cli.output.printing import Format, print_message


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(results)


def results(
    reservation: Annotated[
        str | None,
        typer.Argument(
            help="A reservation of yours. (default: the one that you hold)",
            envvar="ICEBUS_RESERVATION",
            autocompletion=complete_reservation,
        ),
    ] = None,
    plot: PlotFile = None,
    timeline: TimelineFile = None,
    output: Output = Format.TABLE,
) -> None:
    """Collect what was measured with a reservation while nobody was there, as after a crash.

    Boards go on with what they were given, and their worker keeps every result until somebody has
    it. What is still to be measured is waited for; Ctrl-C ends that. What was printed is forgotten
    on the farm. Failures are among the results; only what can't be collected is an error.

    Examples:
      icebus results 5f1c2e9a7b3d4c60
      icebus results 5f1c2e9a7b3d4c60 -o jsonl >> journal.jsonl
    """
    check_plot(plot)
    check_plot(timeline, "--timeline")
    with connect_measuring() as client:
        boards = client.attach(
            chosen_reservation(client, reservation).id, take_over=False, ready=False
        )
        info = client.kinds().get(boards.kind)
        printer = OutcomePrinter(output, info, on_printed=boards.acknowledge)
        try:
            with (
                plotting(plot, info) as drawn,
                drawing_timeline(timeline) as times,
                closing(boards.collect(acknowledge=False)) as outcomes,
            ):
                for outcome in outcomes:
                    printer.print(outcome)
                    for picture in (drawn, times):
                        if picture is not None:
                            picture.add(outcome)
        finally:
            printer.print_rest()
    if not printer.printed:
        print_message("There is nothing to collect.")
    if any(each is not None and each.failed for each in (drawn, times)):
        raise typer.Exit(FAILED)
