"""``icebus-rack run``: how boards are and behave, and running them until told to stop."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from icebus.rack.cli.directory import DIRECTORY, Directory, serials_of
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
from icebus.rack.layout import ChipChoice, layout
from icebus.rack.settings import BANDWIDTH, SLOWNESS, BoardSettings
from icebus.schemas.boards import pulse_count_text as text
from icebus.schemas.boards.rack import FIRMWARE, read_rack_file, write_rack_file
from icebus.schemas.programs.installation import not_importable
from icebus.schemas.programs.log_options import (
    LogFormat,
    LogFormatOption,
    LogLevel,
    LogLevelOption,
    log_as_told,
)
from icebus.schemas.programs.logs import keep_files_private
from icebus.schemas.supervision.command import EndpointOption
from icebus.schemas.supervision.service import Supervision

if TYPE_CHECKING:
    from types import FrameType

log = logging.getLogger("icebus.rack")

TEXT_FIRMWARE = "pulse_count"
"""Firmware that labs have on their boards, and whose window is its own."""


def run(
    directory: Directory = DIRECTORY,
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
                directory, layout(count, chip, made_with, serials_of(directory, seed), emulated)
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
