"""``icebus down``: takes farms of this machine down."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icebus.client.cli.exit_codes import FAILED, NOT_FOUND
from icebus.client.cli.options.completion import complete_running_farm
from icebus.client.cli.options.shared_options import duration as duration_of
from icebus.client.cli.output.printing import print_line, print_message
from icebus.client.cli.output.progress import waiting_message

if TYPE_CHECKING:
    from icebus.client.local_farm.running_farms import RunningFarm

FarmDirectory = Annotated[
    Path | None,
    typer.Option(
        "--directory", "-d", help="The same, as `icebus up --directory` has it.", show_default=False
    ),
]

LOOK_AFTER = 0.05
"""Seconds between looks whether a farm has ended: nothing wakes who is not its parent."""

RunningFarmName = Annotated[
    str | None,
    typer.Argument(
        metavar="[FARM]",
        help="Its directory, or the last part of that. (default: the one that is up)",
        show_default=False,
        autocompletion=complete_running_farm,
    ),
]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(down)


def running_farm(named: str | None, directory: Path | None = None) -> RunningFarm:
    """The farm that is meant.

    Args:
        named: its directory, or the last part of that.
        directory: the same, never merely a part; at most one of the two is given.

    Raises:
        typer.BadParameter: both are.
        typer.Exit: it does not run, which has been told.
    """
    from icebus.client.local_farm.running_farms import find_farm
    from icebus.schemas.errors import NoProfile

    if directory is not None:
        if named is not None:
            raise typer.BadParameter("give either a farm or --directory")
        named = str(directory.absolute())
    try:
        return find_farm(named)
    except NoProfile as error:
        print_message(f"icebus: {error.message}")
        raise typer.Exit(NOT_FOUND) from None


def down(
    farm: RunningFarmName = None,
    directory: FarmDirectory = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="All that are up.")] = False,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            parser=duration_of,
            metavar="DURATION",
            help="How long it may take to end in good order. (default: 1m)",
            show_default=False,
        ),
    ] = 60.0,
) -> None:
    """Take down a farm that `icebus up` runs on this machine, and wait until it has ended.

    What is being measured is measured to its end. Reservations and passwords are kept for the next
    `icebus up`. Where none is up there is nothing to do, and the exit code is 0.

    Examples:
      icebus down
      icebus down /tmp/farm
      icebus down --directory /tmp/farm
      icebus down --all
    """
    from icebus.client.local_farm.running_farms import end, running_farms
    from icebus.schemas.deadline import Deadline

    named = farm is not None or directory is not None
    if named and everything:
        raise typer.BadParameter("give either a farm or --all")
    running = running_farms()
    if not named and not running:
        return print_message("No farm is up on this machine.")
    chosen = running if everything else [running_farm(farm, directory)]
    for each in chosen:
        end(each)
    deadline = Deadline.after(timeout)
    late = []
    with waiting_message("taking down " + " ".join(str(each.directory) for each in chosen)):
        pause = threading.Event()
        for each in chosen:
            while not each.ended and not deadline.expired:
                pause.wait(LOOK_AFTER)
            if not each.ended:
                late.append(each)
            else:
                print_line(f"{each.directory} is down")
    for each in late:
        print_message(
            f"icebus: {each.directory} has not ended in {timeout:g} s; `kill -9 {each.pid}` ends "
            "it at once"
        )
    if late:
        raise typer.Exit(FAILED)
    return None
