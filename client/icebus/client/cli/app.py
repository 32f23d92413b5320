"""The commands of ``icebus``, and how they end."""

from __future__ import annotations

import inspect
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Annotated, cast

import typer

from icebus.client.cli.commands import admin
from icebus.client.cli.commands.account import login, profiles, whoami
from icebus.client.cli.commands.circuits import circuit, simulate
from icebus.client.cli.commands.evaluating import (
    evaluate,
    map,  # noqa: A004 - the command's name
)
from icebus.client.cli.commands.farm import devices, history, kinds, logs, top, watch, workers
from icebus.client.cli.commands.reserving import call, limits, offers, reboot, reservations
from icebus.client.cli.commands.reserving import run as holding
from icebus.client.cli.commands.results import results, timeline
from icebus.client.cli.commands.this_machine import dashboard, doctor, down, status, up
from icebus.client.cli.connecting import FARM
from icebus.client.cli.exit_codes import EXIT_CODES, FAILED, INTERRUPTED, USAGE, describe
from icebus.client.cli.help_text import reflow
from icebus.client.cli.options.common_options import (
    Farm,
    Verbose,
    log_verbosely,
    with_common_options,
)
from icebus.client.cli.output.printing import print_line, print_message
from icebus.client.cli.output.streams import (
    OutputError,
    drop_output,
    has_reader,
    open_standard_streams,
)
from icebus.client.cli.running_command import Command, called

if TYPE_CHECKING:
    from icebus.schemas.errors import IcebusError

UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])
"""What typer raises for wrong usage. It has no public name there, and where it comes from differs
between versions."""

_EPILOG = "Exit codes: " + ", ".join(f"{code} {text}" for code, text in EXIT_CODES.items()) + "."

app = typer.Typer(
    name="icebus",
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
    epilog=_EPILOG,
    help="""Reserve FPGA boards of a farm and evaluate bitstreams on them.

    Start with `icebus up` in one shell and `icebus evaluate FILE...` in another.

    The farm is the one of --farm, $ICEBUS_URL or $ICEBUS_FARM, else the one that `icebus profile
    use` chose, else the one that `icebus up` runs on this machine. -v and --farm may as well stand
    behind a command.
    """,
)


def _print_version(asked: bool) -> None:
    if asked:
        from icebus.client._version import version

        print_line(f"icebus {version()}")
        raise typer.Exit


@app.callback()
def options(
    verbose: Verbose = 0,
    farm: Farm = None,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print which icebus this is."
        ),
    ] = False,
) -> None:
    """Set up logging."""
    FARM.set(farm)
    log_verbosely(verbose)


PANELS = {
    "Farm": (
        *("up", "down", "status", "dashboard", "doctor", "workers", "devices", "kinds", "top"),
        *("watch", "history", "logs", "whoami", "login", "passwd"),
    ),
    "Boards": (
        *("available", "reserve", "reservations", "extend", "reboot", "release"),
        *("transfer", "accept", "decline", "limits", "run"),
    ),
    "Evaluate": ("evaluate", "map", "results", "timeline", "call", "simulate", "circuit"),
}
"""How `icebus --help` groups the commands."""

for _module in (
    *(up, down, status, dashboard, doctor, workers, devices, kinds, top, watch, history, logs),
    *(whoami, login, profiles, admin),
    *(reservations, holding, offers, limits, reboot),
    *(evaluate, map, results, timeline, call, simulate, circuit),
):
    _module.add_to(app)

for _command in (
    *app.registered_commands,
    *admin.app.registered_commands,
    *profiles.app.registered_commands,
):
    _command.cls = Command
    _function = cast("Callable[..., object]", _command.callback)
    _command.callback = with_common_options(_function)
    _command.help = reflow(inspect.getdoc(_function) or "")
    for _panel, _names in PANELS.items():
        if _function.__name__ in _names:
            _command.rich_help_panel = _panel


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: like Ctrl-C, so that what a run reserved is released."""


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def run() -> None:
    """Run the command line; every error is a line or two on stderr and an exit code."""
    open_standard_streams()
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not under nohup
        signal.signal(signal.SIGHUP, _terminate)
    try:
        code = app(prog_name="icebus", standalone_mode=False)
    except UsageError as error:
        from icebus.schemas.wording import plain_problem

        error.message = plain_problem(error.message)
        error.show()
        code = _wrong_usage()
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except OutputError as error:
        drop_output()
        if has_reader(error):
            print_message(f"icebus: can't write to stdout: {error.strerror}")
        code = FAILED
    except Exception as error:
        # Known only where it was raised: importing it here would slow down `--help` and TAB.
        from icebus.schemas.errors import IcebusError

        if isinstance(error, ImportError):
            from icebus.schemas.programs.installation import not_importable

            error = not_importable(error, "this command")
        if not isinstance(error, IcebusError):
            raise
        code = report(error)
    if code == INTERRUPTED:
        print_message("icebus: interrupted")
    sys.exit(code if isinstance(code, int) else 0)


def _wrong_usage() -> int:
    """The exit code of wrong usage: of health it is "unknown", as of all programs."""
    from icebus.schemas.supervision.command import asks_for_health, names_of
    from icebus.schemas.supervision.health import Severity

    of_health = asks_for_health(sys.argv[1:], names_of(app), "dashboard")
    return int(Severity.UNKNOWN) if of_health else USAGE


def report(error: IcebusError) -> int:
    """Say what went wrong; returns the exit code."""
    message, hint, code = describe(error)
    if given := [each for each in error.details.get("problems") or () if "given" in each]:
        from icebus.client._connection.connection import told_problems

        message = told_problems(given, called)
    # Whatever the other side says is indented, and no line of ours.
    print_message("icebus: " + message.replace("\n", "\n  "))
    if hint:
        print_message(f"  {hint}")
    return code
