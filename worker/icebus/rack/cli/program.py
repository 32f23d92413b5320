"""The commands of ``icebus-rack``, and how they end."""

from __future__ import annotations

import sys

import typer
from pydantic import ValidationError

from icebus.rack.cli.boards import fault, list_boards, plug, unplug
from icebus.rack.cli.directory import DIRECTORY, Directory
from icebus.rack.cli.running import run
from icebus.rack.emulator.parts import find_parts
from icebus.rack.health import look
from icebus.schemas.errors import IcebusError
from icebus.schemas.programs.log_options import tell_failure
from icebus.schemas.supervision.command import (
    EXIT_CODES,
    PATIENCE,
    OnlyCritical,
    Output,
    OutputOption,
    PatienceOption,
    run_commands,
    tell,
    within,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Virtual pico-ice boards: a worker uses them like real ones.",
)

app.command()(run)


@app.command("health", epilog=EXIT_CODES)
def tell_health(
    directory: Directory = DIRECTORY,
    output: OutputOption = Output.TEXT,
    timeout: PatienceOption = PATIENCE,
    only_critical: OnlyCritical = False,
) -> None:
    """Say in one line whether the rack is well: whether it runs, its boards, its disk."""
    verdict = within("rack", lambda: look(directory), timeout)
    tell(verdict, output, only_critical=only_critical)


for _command in (plug, unplug, fault):
    app.command()(_command)


@app.command("emulator")
def check_emulator() -> None:
    """Say whether boards can be emulated on this machine, and what is missing."""
    find_parts()
    typer.echo("boards can be emulated")


app.command("list")(list_boards)


def main() -> None:
    """The entry point."""
    try:
        run_commands(app)
    except IcebusError as error:
        tell_failure("icebus-rack", error.message)
        sys.exit(1)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        typer.echo(f"icebus-rack: {where + ': ' if where else ''}{first['msg']}", err=True)
        sys.exit(1)
