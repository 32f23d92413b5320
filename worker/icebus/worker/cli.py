"""``icebus-worker``: runs a worker until it is told to stop."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated

import platformdirs
import typer

from icebus.bus import BrokerAddress
from icebus.schemas.boards.images import directories
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError, InternalError, InvalidRequest
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
from icebus.worker.configuration import Configuration, read_configuration
from icebus.worker.device.device import CHECK_EVERY
from icebus.worker.firmware import FirmwarePolicy
from icebus.worker.hardware.board import Discovery
from icebus.worker.hardware.rack import RackDiscovery
from icebus.worker.hardware.usb import PortMemory, UsbDiscovery, open_source
from icebus.worker.health import look
from icebus.worker.installed import Installed
from icebus.worker.labels import Labels
from icebus.worker.metrics.observer import UNOBSERVED
from icebus.worker.worker import Worker

log = logging.getLogger("icebus.worker")

CONNECT_DEADLINE = 30.0
STOP_DEADLINE = 10.0

GARBAGE = 20_000
"""Objects made and kept between collections. Python's own 700 would have a busy worker collect
hundreds of times a second, and it makes no cycles to speak of."""

_STOPPING = (signal.SIGTERM, signal.SIGINT)

SWITCH_SECONDS = 0.001
"""For which a thread that computes keeps others from Python's lock, instead of 5 ms: whoever reads
the network waits for it again and again while somebody's files are unpacked."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


Broker = Annotated[
    str | None,
    typer.Option(
        envvar="ICEBUS_BROKER",
        help="The credentials file that `icebus-broker add` wrote, or "
        "mqtt://worker:password@host:port. A URL belongs into the environment: arguments are "
        "visible to everybody on the machine.",
    ),
]
ConfigurationFile = Annotated[
    Path | None,
    typer.Option(
        envvar="ICEBUS_WORKER_CONFIG",
        help="A TOML file, over which the other options win; docs/worker.md has its keys.",
    ),
]
JournalDirectory = Annotated[
    Path | None, typer.Option(help="Where journals are kept; the same at every start.")
]


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    broker: Broker = None,
    config: ConfigurationFile = None,
    check_config: Annotated[
        bool,
        typer.Option("--check-config", help="Say whether the configuration is valid; no more."),
    ] = False,
    usb: Annotated[
        bool | None,
        typer.Option(help="Own the boards on USB. Without either, where no rack is named."),
    ] = None,
    rack: Annotated[
        list[Path] | None,
        typer.Option(help="Directory of a rack of virtual boards; may be given more than once."),
    ] = None,
    directory: JournalDirectory = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="Label all its devices for selectors, as in rack=b; may be repeated."),
    ] = None,
    label_port: Annotated[
        list[str] | None,
        typer.Option(help="Label what is plugged into a port, as in 1-1.2:bench=3."),
    ] = None,
    probe_every: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Seconds between checks of a board that nobody uses, about; 0 for never.",
            show_default=f"{CHECK_EVERY:g}",
        ),
    ] = None,
    firmware_policy: Annotated[
        FirmwarePolicy | None,
        typer.Option(
            help="Whether boards keep firmware that serves, or are flashed with what is preferred, "
            "or a newer version of it, when nobody holds them.",
            show_default=FirmwarePolicy.KEEP.value,
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log details.")] = False,
    log_level: LogLevelOption = LogLevel.INFO,
    log_format: LogFormatOption = LogFormat.TEXT,
    health: EndpointOption = None,
    metrics: MetricsOption = None,
) -> None:
    """Own boards and offer them on the bus.

    The worker's id is the user of the broker's URL. SIGTERM or Ctrl-C ends it in good order: what
    is being measured is measured to its end, evaluations that wait end with an explicit failure. A
    second one ends it at once.

    Example: ICEBUS_BROKER=lab1.json icebus-worker --usb
    """
    if context.invoked_subcommand is not None:
        return
    log_as_told(LogLevel.DEBUG if verbose else log_level, log_format)
    try:
        labels = Labels.parse(label or [], label_port or [])
        said = {
            "broker": broker,
            "racks": rack or None,
            "directory": directory,
            "labels": dict(labels.everywhere) or None,
            "port_labels": {port: dict(labels.ports[port]) for port in labels.ports} or None,
            "probe_every": probe_every,
            "firmware_policy": firmware_policy,
            "verbose": verbose or None,
            "usb": None if usb is None else {"enabled": usb},
        }
        options = {key: value for key, value in said.items() if value is not None}
        configuration = read_configuration(config, options)
        if configuration.verbose:
            log_as_told(LogLevel.DEBUG, log_format)
        keep_files_private()
        configuration.firmware.check()
        image_folders = directories(configured=configuration.firmware.folders)
        installed = Installed.load(image_folders).offering(configuration.kinds)
        if check_config:
            typer.echo(f"{config or 'what the options say'} is valid")
        else:
            serve(configuration, installed, health, metrics)
    except IcebusError as error:
        tell_failure("icebus-worker", error.message)
        raise typer.Exit(1) from None


@app.command("health", epilog=EXIT_CODES)
def tell_health(
    broker: Broker = None,
    config: ConfigurationFile = None,
    directory: JournalDirectory = None,
    output: OutputOption = Output.TEXT,
    timeout: PatienceOption = PATIENCE,
    only_critical: OnlyCritical = False,
) -> None:
    """Say in one line whether this worker is well.

    It looks at the broker, at control, the boards, the disk, certificates and the clock.
    Needs what the worker itself is given.
    """
    log_to_stderr(logging.ERROR)
    said = {"broker": broker, "directory": directory}
    options = {key: value for key, value in said.items() if value is not None}
    configuration = read_configuration(config, options)
    address = _address(configuration)
    journals = _journals(configuration, address)
    name = f"worker {address.user}"
    verdict = within(name, lambda: look(address, journals, timeout), timeout + MARGIN)
    tell(verdict, output, only_critical=only_critical)


def _address(configuration: Configuration) -> BrokerAddress:
    if configuration.broker is None:
        raise InvalidRequest(
            "which broker? Put the path of the worker's credentials file, or its URL, "
            "mqtt://worker:password@host:port, in ICEBUS_BROKER"
        )
    return BrokerAddress.parse(configuration.broker)


def _sources(configuration: Configuration) -> list[str]:
    racks = [f"the rack in {each}" for each in configuration.racks]
    return [*racks, "USB"] if configuration.owns_usb else racks


def _journals(configuration: Configuration, address: BrokerAddress) -> Path:
    user_state = platformdirs.user_state_path("icebus") / "worker" / address.user
    return configuration.directory or user_state


def serve(
    configuration: Configuration,
    installed: Installed,
    health: str | None = None,
    metrics: str | None = None,
) -> None:
    """Run a worker on this thread's signals.

    Args:
        configuration: of it.
        installed: what it offers.
        health: where its health is told by HTTP; None for nowhere.
        metrics: likewise its metrics.

    Raises:
        IcebusError: it can't start.
        InternalError: it could not go on.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    address = _address(configuration)
    state = _journals(configuration, address)
    discoveries: list[Discovery] = [RackDiscovery(each) for each in configuration.racks]
    if configuration.owns_usb:
        source = open_source(configuration.usb.finding)
        memory = PortMemory(state / "usb-ports.json")
        discoveries.append(UsbDiscovery(source, configuration.usb.rules, memory))
    if not discoveries:
        raise InvalidRequest("no boards to own: say --usb, or name a rack's directory with --rack")
    registry = open_registry(metrics)
    observer = UNOBSERVED
    if registry is not None:
        from icebus.worker.metrics.counting import Counting

        observer = Counting(registry, installed.kinds)
    supervision = Supervision(health, metrics, registry)
    stop = threading.Event()
    failures: list[IcebusError] = []

    def give_way(other: IcebusError) -> None:
        failures.append(other)
        stop.set()

    def stop_failed(why: str) -> None:
        give_way(InternalError(f"{why}; the log may say why. Start it again"))

    worker = Worker(
        address,
        discoveries,
        state,
        configuration.all_labels(),
        configuration.probe_every,
        stop_failed,
        installed,
        configuration.firmware_policy,
        give_way,
        observer,
    )
    if registry is not None:
        from icebus.worker.metrics.collector import WorkerCollector

        registry.register(WorkerCollector(worker.facts, state))

    def stop_gracefully(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        for number in _STOPPING:
            signal.signal(number, signal.SIG_DFL)  # the next one ends the process

    for number in _STOPPING:
        signal.signal(number, stop_gracefully)
    worker.start(Deadline.after(CONNECT_DEADLINE))
    worker.publish_log()
    log.info(
        "worker %s serves %s:%s/%s with boards of %s; it offers %s",
        worker.id,
        address.host,
        address.port,
        address.root,
        " and ".join(_sources(configuration)),
        ", ".join(sorted(installed.kinds)) or "nothing",
    )
    # What is loaded by now stays: it need not be looked through at every collection.
    gc.freeze()
    gc.set_threshold(GARBAGE)
    supervision.tell_health(f"worker {worker.id}", partial(look, address, state))
    worker.on_ready(lambda: supervision.ready(worker.loops, worker.status))
    wait_told(stop)
    log.info("stopping: what is being measured is measured to its end")
    supervision.stop()
    worker.stop(Deadline.after(STOP_DEADLINE))
    if failures:
        raise failures[0]


def main() -> None:
    """Entry point."""
    try:
        run_commands(app)
    except IcebusError as error:
        tell_failure("icebus-worker", error.message)
        sys.exit(1)


if __name__ == "__main__":
    main()
