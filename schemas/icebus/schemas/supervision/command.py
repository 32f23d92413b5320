"""What the ``health`` commands of all programs share: options, a bound on time, and exit codes."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from enum import StrEnum
from typing import Annotated, NoReturn

import typer

from icebus.schemas.errors import IcebusError
from icebus.schemas.programs.logs import printable
from icebus.schemas.supervision.health import Severity, Verdict, unknown

PATIENCE = 5.0
"""Seconds within which facts are gathered, unless told otherwise."""

MARGIN = 3.0
"""Seconds more after which it is said that nothing could be found out."""

COMMAND = "health"


class Output(StrEnum):
    """What ``health`` prints."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="One line, or JSON.")]
PatienceOption = Annotated[
    float, typer.Option("--timeout", min=0.1, max=300.0, help="Seconds to look, at most.")
]
OnlyCritical = Annotated[
    bool,
    typer.Option(
        "--only-critical",
        help="Exit with 1 when critical or unknown, else with 0: what container engines expect.",
    ),
]
EndpointOption = Annotated[
    str | None,
    typer.Option(
        "--health",
        metavar="127.0.0.1:PORT",
        envvar="ICEBUS_HEALTH",
        help="Tell health there by HTTP as well, to this machine only. [default: not at all]",
    ),
]

MetricsOption = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="127.0.0.1:PORT",
        envvar="ICEBUS_METRICS",
        help="Tell metrics there to Prometheus, from this machine only; it may be the place of "
        "--health. [default: not at all]",
    ),
]

EXIT_CODES = "Exit code: 0 ok, 1 warning, 2 critical, 3 unknown, as Nagios and its like expect."


def within(program: str, look: Callable[[], Verdict], seconds: float) -> Verdict:
    """The verdict of ``look``, or that there is none: it fails, or is not done in ``seconds``."""
    found: list[Verdict] = []

    def run() -> None:
        try:
            found.append(look())
        except IcebusError as error:
            found.append(Verdict(program, (unknown(COMMAND, error.message),)))
        except Exception as error:  # noqa: BLE001 (it is what is reported)
            found.append(Verdict(program, (unknown(COMMAND, f"can't be found out: {error!r}"),)))

    # What hangs can't be stopped; it ends with this process, or when the system lets go of it.
    thread = threading.Thread(target=run, name=COMMAND, daemon=True)
    thread.start()
    thread.join(seconds)
    if found:
        return found[0]
    return Verdict(program, (unknown(COMMAND, f"no verdict within {seconds:g} s"),))


class Told(SystemExit):
    """The end of a program that has told a verdict; its code is the verdict's."""


def tell(verdict: Verdict, output: Output, *, only_critical: bool) -> NoReturn:
    """Print a verdict and end with its exit code.

    Raises:
        Told: always.
    """
    typer.echo(json.dumps(verdict.document) if output is Output.JSON else verdict.line)
    severity = verdict.severity
    bad = severity in (Severity.CRITICAL, Severity.UNKNOWN)
    raise Told(int(bad) if only_critical else int(severity))


def asks_for_health(
    arguments: Sequence[str], commands: Collection[str], parent: str | None = None
) -> bool:
    """Whether these arguments are of ``health``, and not of a command that is given such a name.

    Args:
        arguments: of the program.
        commands: the names of its commands.
        parent: the command that takes ``health`` as its argument; None where it is one itself.
    """
    first = next((each for each in arguments if each in commands), None)
    if parent is None:
        return first == COMMAND
    return first == parent and COMMAND in arguments[arguments.index(parent) :]


def names_of(app: typer.Typer) -> set[str]:
    """The names of a program's commands."""
    names = (
        each.name or getattr(each.callback, "__name__", "") for each in app.registered_commands
    )
    return {each.replace("_", "-") for each in names}


def run_commands(app: typer.Typer) -> None:
    """Run a program; wrong usage of its ``health`` is "unknown", not "critical" as click's 2 is.

    Raises:
        SystemExit: always, unless the program raises an :class:`IcebusError`.
    """
    asked = asks_for_health(sys.argv[1:], names_of(app))
    try:
        app()
    except IcebusError as error:
        if not asked:
            raise
        typer.echo(printable(f"UNKNOWN: {error.message}"))
        sys.exit(int(Severity.UNKNOWN))
    except SystemExit as end:
        if asked and end.code and not isinstance(end, Told):
            sys.exit(int(Severity.UNKNOWN))
        raise
