"""``icebus-control``: the program."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import platformdirs
import typer

from icebus.bus import BrokerAddress
from icebus.control.decide.limits import (
    PRIORITY,
    REQUESTS_PER_SECOND,
    RESERVATIONS,
    Limits,
)
from icebus.control.decide.ownership import RELEASE_AFTER
from icebus.control.health import look
from icebus.control.metrics.observer import UNOBSERVED
from icebus.control.server import Control
from icebus.control.settings import Settings, read_limits
from icebus.control.store import backup
from icebus.control.store.database import Database
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError, InvalidRequest
from icebus.schemas.programs.log_options import (
    LogFormat,
    LogFormatOption,
    LogLevel,
    LogLevelOption,
    log_as_told,
    tell_failure,
)
from icebus.schemas.programs.logs import keep_files_private, log_to_stderr
from icebus.schemas.programs.signals import wait_told
from icebus.schemas.supervision.command import (
    EXIT_CODES,
    MARGIN,
    PATIENCE,
    EndpointOption,
    MetricsOption,
    OnlyCritical,
    Output,
    OutputOption,
    PatienceOption,
    run_commands,
    tell,
    within,
)
from icebus.schemas.supervision.registry import open_registry
from icebus.schemas.supervision.service import Supervision

log = logging.getLogger("icebus.control")

START_TIMEOUT = 30.0
"""Seconds to wait for the broker at the start: it may be starting too."""

STOP_TIMEOUT = 5.0

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def default_database() -> str:
    """Where control has its database unless told otherwise."""
    folder = Path(platformdirs.user_state_dir("icebus", appauthor=False))
    return f"sqlite:///{folder / 'control.db'}"


Broker = Annotated[
    str | None,
    typer.Option(
        envvar="ICEBUS_BROKER",
        help="mqtts://user:password@host:port/root, or the credentials file that "
        "`icebus-broker add` wrote. A URL belongs into the variable: everybody can read the "
        "arguments of a program, and with them the password.",
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        envvar="ICEBUS_DATABASE",
        help="sqlite:////path/to/file or postgresql://user:password@host/name; one with a password "
        "belongs into the variable, too. [default: a file in the user's state directory]",
    ),
]


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    broker: Broker = None,
    database: DatabaseUrl = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--id",
            help="Of this control; the broker must know it by that user. [default: the URL's user]",
        ),
    ] = None,
    heartbeat: Annotated[float, typer.Option(help="Seconds between heartbeats.")] = 1.0,
    grace: Annotated[
        float, typer.Option(help="Seconds an attached reservation outlives its client.")
    ] = 10.0,
    max_duration: Annotated[
        float, typer.Option(help="Seconds from now that no reservation ends after.")
    ] = 86_400.0,
    limits: Annotated[
        Path | None,
        typer.Option(
            envvar="ICEBUS_LIMITS",
            metavar="FILE",
            help="TOML: what users may have. The tables default and, for single ones, users.NAME "
            f"say how many devices at once (unless said, all), how many reservations "
            f"({RESERVATIONS}, also those that wait), the highest priority ({PRIORITY}) and how "
            f"many requests_per_second ({REQUESTS_PER_SECOND:g}).",
        ),
    ] = None,
    history_days: Annotated[float, typer.Option(help="Days that the history reaches back.")] = 400,
    ended_days: Annotated[
        float, typer.Option(help="Days that is remembered why a reservation is over; at least 8.")
    ] = 30,
    release_after: Annotated[
        float,
        typer.Option(
            envvar="ICEBUS_RELEASE_AFTER",
            help="Seconds after which a worker that is away has let go of boards that another has.",
        ),
    ] = RELEASE_AFTER,
    log_level: LogLevelOption = LogLevel.INFO,
    log_format: LogFormatOption = LogFormat.TEXT,
    health: EndpointOption = None,
    metrics: MetricsOption = None,
) -> None:
    """Keep the reservations of a farm and tell its workers what to do, until told to stop."""
    if context.invoked_subcommand is not None:
        return
    log_as_told(log_level, log_format)
    keep_files_private()
    # Which migration runs is of no interest when there is none to run.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    address = _address(broker)
    if name is not None and name != address.user:
        raise InvalidRequest(
            f"control {name} can't speak as the broker's user {address.user}; "
            f"put {name} and its password into the broker's URL, or give --id {address.user}"
        )
    settings = Settings(
        interval=heartbeat,
        grace=grace,
        max_duration=max_duration,
        history_days=history_days,
        ended_days=ended_days,
        release_after=release_after,
        limits=Limits() if limits is None else read_limits(limits),
        limits_file=limits,
    )
    stop = threading.Event()
    others: list[IcebusError] = []

    def give_way(other: IcebusError) -> None:
        others.append(other)
        stop.set()

    registry = open_registry(metrics)
    observer = UNOBSERVED
    if registry is not None:
        from icebus.control.metrics.counting import Counting

        observer = Counting(registry)
    supervision = Supervision(health, metrics, registry)
    url = database or default_database()
    control = Control(address, Database(url), settings, give_way, observer)
    if registry is not None:
        from icebus.control.metrics.collector import ControlCollector

        registry.register(ControlCollector(control))
    # Until it serves there is nothing to finish.
    _on_signals(lambda: sys.exit(0))
    control.start(Deadline.after(START_TIMEOUT), supervision.waits)
    control.publish_log()
    _on_signals(stop.set)
    log.info("control %s serves %s:%s/%s", control.id, address.host, address.port, address.root)
    supervision.tell_health(f"control {control.id}", partial(look, address, url))
    supervision.ready(control.loops, control.status)
    wait_told(stop)
    log.info("stopping")
    supervision.stop()
    control.stop(Deadline.after(STOP_TIMEOUT))
    if others:
        raise others[0]


@app.command("health", epilog=EXIT_CODES)
def tell_health(
    broker: Broker = None,
    database: DatabaseUrl = None,
    output: OutputOption = Output.TEXT,
    timeout: PatienceOption = PATIENCE,
    only_critical: OnlyCritical = False,
) -> None:
    """Say in one line whether this control is well.

    It looks at the broker, at who leads, the database, the disk, certificates and the clock.
    Needs what control itself is given. Without --database, only what control says of it counts.
    """
    log_to_stderr(logging.ERROR)
    address = _address(broker)
    name = f"control {address.user}"
    verdict = within(name, lambda: look(address, database, timeout), timeout + MARGIN)
    tell(verdict, output, only_critical=only_critical)


BackupFile = Annotated[Path, typer.Argument(metavar="FILE", help="That `backup` has made.")]


@app.command("backup")
def save_database(
    directory: Annotated[
        Path, typer.Option("--directory", "-d", help="Where backups are kept; made if missing.")
    ],
    keep: Annotated[int, typer.Option(min=1, help="How many stay; the oldest go.")] = 14,
    database: DatabaseUrl = None,
) -> None:
    """Save the database while controls run, check what was saved, and print its path.

    Of several controls on one database, one is enough. PostgreSQL needs its pg_dump here.
    """
    log_to_stderr(logging.WARNING)
    keep_files_private()
    saved = backup.save(database or default_database(), directory, keep)
    typer.echo(f"{saved.path}: {saved.size:,} bytes")


@app.command("verify")
def check_backup(file: BackupFile) -> None:
    """Say whether a backup is whole."""
    saved = backup.check(file)
    typer.echo(f"{file} is whole: {saved.size:,} bytes")


@app.command("restore")
def restore_database(file: BackupFile, database: DatabaseUrl = None) -> None:
    """Put a backup in the place of the database, whole or not at all. Stop all controls before."""
    log_to_stderr(logging.WARNING)
    keep_files_private()
    backup.restore(file, database or default_database())
    typer.echo(f"{file} restored; start control")


def _address(broker: str | None) -> BrokerAddress:
    if not broker:
        raise InvalidRequest(
            "no broker is named; put the path of control's credentials file, or its URL, into "
            "ICEBUS_BROKER, or run `icebus up`, which does"
        )
    return BrokerAddress.parse(broker)


def _on_signals(act: Callable[[], object]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: act())


def main() -> None:
    """Run the program; what goes wrong is one line on stderr that says what to do."""
    try:
        run_commands(app)
    except IcebusError as error:
        tell_failure("icebus-control", error.message)
        sys.exit(1)


if __name__ == "__main__":
    main()
