"""``icebus-rack``: run virtual boards, and plug and unplug them."""

from __future__ import annotations

import json
import logging
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from platformdirs import user_state_path
from pydantic import ValidationError

from icebus.rack.emulator.parts import find_parts
from icebus.rack.environment import (
    COLDEST,
    DRIFT_PERIOD_SECONDS,
    HOTTEST,
    LONGEST_DRIFT_PERIOD,
    MOST_JITTER,
    MOST_SLOWDOWN,
    NEUTRAL_CELSIUS,
    EnvironmentSettings,
)
from icebus.rack.firmware import FirmwareSettings
from icebus.rack.firmware.settings import LOAD_SECONDS, UNPACK_SECONDS
from icebus.rack.health import look
from icebus.rack.identity import rack_id
from icebus.rack.layout import ChipChoice, SerialOf, add_board, layout, of_rack, seeded
from icebus.rack.lock import is_running
from icebus.rack.settings import BANDWIDTH, SLOWNESS, BoardSettings
from icebus.schemas.boards import pulse_count_text as text
from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import (
    FIRMWARE,
    Fault,
    RackBoard,
    RackFile,
    edit_rack_file,
    read_boards,
    read_rack_file,
    write_rack_file,
)
from icebus.schemas.errors import FirmwareUnknown, IcebusError, UnknownDevice
from icebus.schemas.programs.installation import not_importable
from icebus.schemas.programs.log_options import (
    LogFormat,
    LogFormatOption,
    LogLevel,
    LogLevelOption,
    log_as_told,
    tell_failure,
)
from icebus.schemas.programs.logs import keep_files_private
from icebus.schemas.supervision.command import (
    EXIT_CODES,
    PATIENCE,
    EndpointOption,
    OnlyCritical,
    OutputOption,
    PatienceOption,
    run_commands,
    tell,
    within,
)
from icebus.schemas.supervision.command import Output as JsonOrText
from icebus.schemas.supervision.service import Supervision

if TYPE_CHECKING:
    from types import FrameType

log = logging.getLogger("icebus.rack")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Virtual pico-ice boards: a worker uses them like real ones.",
)

TEXT_FIRMWARE = "pulse_count"
"""Firmware that labs have on their boards, and whose window is its own."""

Directory = Annotated[
    Path,
    typer.Option(
        "--directory",
        "-d",
        envvar="ICEBUS_RACK_DIRECTORY",
        file_okay=False,
        show_default="in the user's state directory",
        help="Where the boards appear, one folder per USB port.",
    ),
]
_DIRECTORY = user_state_path("icebus") / "rack"


class Output(StrEnum):
    """Form of a list."""

    TABLE = "table"
    JSON = "json"


@app.command()
def run(
    directory: Directory = _DIRECTORY,
    boards: Annotated[
        int | None,
        typer.Option(
            "--boards",
            "-n",
            min=0,
            max=1000,
            help="Plug this many boards, in place of those that rack.json lists.",
            show_default="those of rack.json, or 1; 0 with --emulated",
        ),
    ] = None,
    emulated: Annotated[
        int,
        typer.Option(
            "--emulated",
            min=0,
            max=100,
            help="Plug this many boards more whose chip is emulated; measuring takes a core each.",
        ),
    ] = 0,
    slowness: Annotated[
        float,
        typer.Option(min=1.0, help="How many times slower than a real one an emulated board is."),
    ] = SLOWNESS,
    chip: Annotated[
        ChipChoice, typer.Option(help="Chip of the boards made by --boards.")
    ] = ChipChoice.RP2040,
    firmware: Annotated[
        str | None,
        typer.Option(
            help="Firmware in the flash of the boards made by --boards.",
            show_default=f"{FIRMWARE}, or {TEXT_FIRMWARE} with --window",
        ),
    ] = None,
    window: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help=f"Seconds that boards count for whose firmware is not asked to: {TEXT_FIRMWARE}.",
            show_default=f"{text.WINDOW_SECONDS:g}",
        ),
    ] = None,
    speedup: Annotated[
        float,
        typer.Option(min=0.001, help="How many times faster than on a board windows pass."),
    ] = 1.0,
    bandwidth: Annotated[
        float, typer.Option(min=0.0, help="Bytes per second of a board's USB; 0: no limit.")
    ] = BANDWIDTH,
    watchdog: Annotated[
        float, typer.Option(min=0.0, help="Seconds that a bitstream may take, sent as text.")
    ] = text.WATCHDOG_SECONDS,
    load: Annotated[
        float, typer.Option(min=0.0, help="Seconds that configuring an FPGA takes.")
    ] = LOAD_SECONDS,
    unpack: Annotated[
        float, typer.Option(min=0.0, help="Seconds that unpacking a bitstream takes.")
    ] = UNPACK_SECONDS,
    absence: Annotated[
        float, typer.Option(min=0.0, help="Seconds that a board is absent when it reboots.")
    ] = 0.05,
    jitter: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=MOST_JITTER,
            envvar="ICEBUS_RACK_JITTER",
            help="Seconds by which windows differ (standard deviation).",
        ),
    ] = 0.0,
    temperature: Annotated[
        float,
        typer.Option(
            min=COLDEST,
            max=HOTTEST,
            envvar="ICEBUS_RACK_TEMPERATURE",
            help="Of the boards' chips, in degrees Celsius.",
        ),
    ] = NEUTRAL_CELSIUS,
    drift: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=HOTTEST,
            envvar="ICEBUS_RACK_DRIFT",
            help="Degrees that the temperature rises and falls by.",
        ),
    ] = 0.0,
    drift_period: Annotated[
        float,
        typer.Option(
            min=0.001,
            max=LONGEST_DRIFT_PERIOD,
            envvar="ICEBUS_RACK_DRIFT_PERIOD",
            help="Seconds in which it rises and falls once.",
        ),
    ] = DRIFT_PERIOD_SECONDS,
    slowdown: Annotated[
        float,
        typer.Option(
            min=-MOST_SLOWDOWN,
            max=MOST_SLOWDOWN,
            envvar="ICEBUS_RACK_SLOWDOWN",
            help="Part of its speed that a gate loses with each degree above 25 C.",
        ),
    ] = 0.0,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that simulate FPGAs.", show_default="one a core"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Makes serials and measurements repeatable; racks of one seed show the same "
            "serials.",
            show_default="serials are the rack's own",
        ),
    ] = None,
    verbose: Annotated[
        int,
        typer.Option("--verbose", "-v", count=True, help="Log details, also every report."),
    ] = 0,
    log_level: LogLevelOption = LogLevel.INFO,
    log_format: LogFormatOption = LogFormat.TEXT,
    health: EndpointOption = None,
) -> None:
    """Run the boards until SIGTERM or Ctrl-C; then their folders are removed."""
    log_as_told(LogLevel.DEBUG if verbose else log_level, log_format)
    # The package that watches folders logs each of its own steps.
    logging.getLogger("watchdog").setLevel(logging.WARNING)
    keep_files_private()
    try:
        from icebus.rack.evaluator import PoolEvaluator
        from icebus.rack.firmware import installed_firmware
        from icebus.rack.rack import Rack
    except ImportError as error:
        raise not_importable(error, "a rack", "virtual") from error
    supervision = Supervision(health)
    environment = EnvironmentSettings(jitter, temperature, drift, drift_period, slowdown)
    firmwares = FirmwareSettings(
        window=text.WINDOW_SECONDS if window is None else window,
        speedup=speedup,
        watchdog=watchdog,
        load=load,
        unpack=unpack,
        environment=environment,
    )
    made_with = firmware or (FIRMWARE if window is None else TEXT_FIRMWARE)
    settings = BoardSettings(
        firmwares, bandwidth=bandwidth, absence=absence, slowness=slowness, seed=seed or 0
    )
    if emulated:
        find_parts()
    installed_firmware()  # boards without any would be silent, and nobody would know why
    rack = Rack(directory, settings, lambda loop: PoolEvaluator(loop, processes))

    def prepare() -> None:
        if boards is not None or emulated or read_rack_file(directory) is None:
            count = boards if boards is not None else int(not emulated)
            write_rack_file(
                directory, layout(count, chip, made_with, _serials(directory, seed), emulated)
            )

    def ready() -> None:
        supervision.tell_health("rack", lambda _seconds: look(directory))
        supervision.ready(rack.loops, rack.status)
        log.info("the rack in %s serves: %s", directory, rack.status())

    def stop(_signal: int, _frame: FrameType | None) -> None:
        rack.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)

    try:
        rack.run(prepare, ready)
    finally:
        log.info("stopped")
        supervision.stop()


@app.command("health", epilog=EXIT_CODES)
def tell_health(
    directory: Directory = _DIRECTORY,
    output: OutputOption = JsonOrText.TEXT,
    timeout: PatienceOption = PATIENCE,
    only_critical: OnlyCritical = False,
) -> None:
    """Say in one line whether the rack is well: whether it runs, its boards, its disk."""
    verdict = within("rack", lambda: look(directory), timeout)
    tell(verdict, output, only_critical=only_critical)


@app.command()
def plug(
    directory: Directory = _DIRECTORY,
    port: Annotated[
        str | None,
        typer.Option(help="USB port path, such as 1-1.2.", show_default="the first free one"),
    ] = None,
    serial: Annotated[
        str | None,
        typer.Option(
            help="The board's serial.", show_default="made from the rack's id and the port"
        ),
    ] = None,
    chip: Annotated[Chip, typer.Option(help="The board's chip.")] = Chip.RP2040,
    firmware: Annotated[str, typer.Option(help="What is in its flash.")] = FIRMWARE,
    emulated: Annotated[bool, typer.Option("--emulated", help="Emulate its chip.")] = False,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Makes the serial repeatable.", show_default="the serial is the rack's own"
        ),
    ] = None,
) -> None:
    """Plug one more board; prints its port and serial."""
    if emulated:
        find_parts()
    _check_firmware(firmware)
    serials = _serials(directory, seed)
    rack = edit_rack_file(
        directory,
        lambda rack: add_board(rack, chip, firmware, serials, port, serial, emulated=emulated),
    )
    board = rack.boards[-1]
    typer.echo(f"{board.port} {board.serial}")
    _hint_if_stopped(directory)


def _check_firmware(name: str) -> None:
    from icebus.rack.firmware import installed_firmware

    known = sorted(installed_firmware())
    if name not in known:
        raise FirmwareUnknown(f"no firmware {name!r} here; there are {', '.join(known)}")


@app.command()
def unplug(
    board: Annotated[str, typer.Argument(metavar="PORT|SERIAL", help="Which board.")],
    directory: Directory = _DIRECTORY,
) -> None:
    """Unplug a board."""

    def without(rack: RackFile) -> RackFile:
        _check_plugged(rack, board)
        return RackFile(boards=tuple(b for b in rack.boards if board not in (b.port, b.serial)))

    edit_rack_file(directory, without)
    _hint_if_stopped(directory)


@app.command()
def fault(
    board: Annotated[str, typer.Argument(metavar="PORT|SERIAL", help="Which board.")],
    fault: Annotated[
        Fault | None,
        typer.Argument(help="What is wrong with it from now on.", show_default="nothing any more"),
    ] = None,
    directory: Directory = _DIRECTORY,
) -> None:
    """Have something wrong with a board, to see what becomes of it; leave out FAULT to end it.

    hang: the chip stands still. wedge: so, until it is reset. stall: it takes half a bitstream.
    babble: it talks without end. garbage: it says random bytes. misreport: its reports can't be
    understood. bootloader: it starts nothing else. Emulated boards can only hang, and start their
    bootloader.
    """

    def with_fault(rack: RackFile) -> RackFile:
        _check_plugged(rack, board)
        return RackFile(
            boards=tuple(
                RackBoard(**{**dict(b), "fault": fault}) if board in (b.port, b.serial) else b
                for b in rack.boards
            )
        )

    edit_rack_file(directory, with_fault)
    _hint_if_stopped(directory)


@app.command("emulator")
def check_emulator() -> None:
    """Say whether boards can be emulated on this machine, and what is missing."""
    find_parts()
    typer.echo("boards can be emulated")


@app.command("list")
def list_boards(
    directory: Directory = _DIRECTORY,
    output: Annotated[Output, typer.Option("--output", "-o", help="Form.")] = Output.TABLE,
) -> None:
    """List the plugged boards and what runs on them now."""
    rack = read_rack_file(directory) or RackFile()
    present = {board.port: board for board in read_boards(directory)}
    rows = []
    for spec in rack.boards:
        device = present.get(spec.port)
        rows.append(
            {
                "port": spec.port,
                "serial": spec.serial,
                "chip": spec.chip.value + (" (emulated)" if spec.emulated else ""),
                "state": device.mode.value if device else "absent",
                "fault": spec.fault.value if spec.fault else None,
                "usb": f"{device.vid:04x}:{device.pid:04x}" if device else None,
                "usb_serial": device.serial if device else None,
                "folder": str(directory / spec.port) if device else None,
            }
        )
    if output is Output.JSON:
        typer.echo(json.dumps(rows, indent=2))
        return
    columns = ("port", "serial", "chip", "state", "fault", "usb", "folder")
    table = [[name.upper() for name in columns]]
    table += [[str(row[key] or "-") for key in columns] for row in rows]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        typer.echo("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip())
    _hint_if_stopped(directory)


def _serials(directory: Path, seed: int | None) -> SerialOf:
    return of_rack(rack_id(directory)) if seed is None else seeded(seed)


def _check_plugged(rack: RackFile, board: str) -> None:
    if not any(board in (b.port, b.serial) for b in rack.boards):
        known = ", ".join(b.port for b in rack.boards) or "none"
        raise UnknownDevice(f"No board {board!r} is plugged; ports with boards: {known}.")


def _hint_if_stopped(directory: Path) -> None:
    if not is_running(directory):
        typer.echo(f"No rack runs in {directory}: icebus-rack run -d {directory}", err=True)


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


if __name__ == "__main__":
    main()
