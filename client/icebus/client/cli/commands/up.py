"""``icebus up``: a farm of virtual boards on this machine, for as long as it runs."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icebus.client.cli.output import print_message
from icebus.client.cli.progress import waiting_message
from icebus.schemas.wording import counted

if TYPE_CHECKING:
    from icebus.client.cli.signals import Signals
    from icebus.client.local_farm.farm import Farm

READY_TIMEOUT = 120.0
"""Seconds for all boards to be ready; a hundred virtual ones on two cores take half a minute."""

USUAL_BOARDS = 4

DASHBOARD_TIMEOUT = 5.0
"""Seconds for the web page to be served, once all boards are ready."""

NO_PROGRAM = 127
"""Exit code for a command that does not exist, as in a shell."""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(context_settings={"ignore_unknown_options": False})(up)


def up(
    command: Annotated[
        list[str] | None,
        typer.Argument(help="Run this on the farm, then take the farm down.", show_default=False),
    ] = None,
    boards: Annotated[
        int | None,
        typer.Option(
            "--boards",
            "-n",
            min=0,
            max=1000,
            help="How many virtual boards. (default: 4, or none with --emulated)",
        ),
    ] = None,
    emulated: Annotated[
        int,
        typer.Option(
            "--emulated",
            min=0,
            max=100,
            help="How many boards more whose chip is emulated, running the firmware's image. "
            "Each takes a core when it measures, and four times as long as a real one.",
        ),
    ] = 0,
    usb: Annotated[
        bool, typer.Option("--usb", help="And the boards on this machine's USB: docs/boards.md.")
    ] = False,
    firmware: Annotated[
        str | None,
        typer.Option(
            help="What the virtual boards run. (default: icebus, or pulse_count with --window)"
        ),
    ] = None,
    window: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Seconds that boards count pulses for whose firmware is not asked to: "
            "pulse_count. (default: 1)",
        ),
    ] = None,
    speedup: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="How many times faster than on a board the windows of virtual ones pass; counts "
            "are those of whole windows. (default: 1)",
        ),
    ] = None,
    bandwidth: Annotated[
        float | None,
        typer.Option(min=0.0, help="Bytes per second of a board's USB; 0: no limit."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Makes serials and measurements repeatable.")
    ] = None,
    user: Annotated[
        list[str] | None,
        typer.Option("--user", "-u", help="Who may reserve; repeatable. (default: you)"),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory",
            "-d",
            help="Where the farm keeps everything. (default: in your state directory; with a "
            "command, a temporary one)",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Of the broker, on loopback. (default: as before, or a free one)"
        ),
    ] = None,
    dashboard: Annotated[
        bool,
        typer.Option(
            "--dashboard/--no-dashboard",
            help="Serve the farm's web page. With a command it is not served.",
            show_default=False,
        ),
    ] = True,
) -> None:
    """Bring up a farm on this machine: broker, control, worker and virtual boards.

    It runs until Ctrl-C, or, with a command, until that ends; `icebus up` then exits with the
    command's code. Passwords and reservations are kept in the directory.

    Examples:
      icebus up
      icebus up --boards 8 --speedup 20
      icebus up --boards 0 --usb
      icebus up --boards 2 -- icebus evaluate -n 2 blink.bin
      icebus up --emulated 1
    """
    from icebus.client._farm_directory import state_directory
    from icebus.client.cli.signals import Signals
    from icebus.client.local_farm.farm import Farm, FarmSettings

    if command and shutil.which(command[0]) is None:
        print_message(f"icebus: there is no program {command[0]!r} to run")
        raise typer.Exit(NO_PROGRAM)
    with _directory(directory, state_directory() / "farm", bool(command)) as place:
        settings = FarmSettings(
            directory=place,
            users=list(dict.fromkeys(user)) if user else [_login()],
            boards=boards if boards is not None else USUAL_BOARDS * (not emulated),
            emulated=emulated,
            usb=usb,
            firmware=firmware,
            window=window,
            speedup=speedup,
            bandwidth=bandwidth,
            seed=seed,
            port=port,
            dashboard=dashboard and not command,
        )
        with Signals() as signals:
            farm = Farm(settings, print_message)
            try:
                code = _serve(farm, signals, command or [])
            finally:
                farm.stop()
    if code:
        raise typer.Exit(code)


def _serve(farm: Farm, signals: Signals, command: Sequence[str]) -> int:
    from icebus.schemas.deadline import Deadline

    farm.start()

    def pause(seconds: float) -> bool:
        farm.supervisor.tend()
        signals.wait(Deadline.after(seconds))
        return signals.stop is not None

    total = farm.settings.all_boards
    with waiting_message(f"starting {counted(total, 'board')}") as update:
        ready = farm.wait_ready(
            Deadline.after(READY_TIMEOUT),
            pause,
            lambda count: update(f"{count} of {total} boards are ready"),
        )
    if not ready:
        return 128 + signals.stop if command and signals.stop else 0
    if command:
        return _run(farm, signals, command)
    _greet(farm, is_default=farm.make_default())
    while signals.stop is None:
        signals.wait(farm.supervisor.tend())
    print_message("icebus: taking the farm down")
    return 0


def _run(farm: Farm, signals: Signals, command: Sequence[str]) -> int:
    """Run the command on the farm; returns its exit code as a shell would."""
    environment = {**os.environ, "ICEBUS_FARM": str(farm.profile)}
    environment.pop("ICEBUS_URL", None)
    environment.pop("ICEBUS_RESERVATION", None)
    setpriv = shutil.which("setpriv")
    # Should we be killed, the command is to end as well.
    guard = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
    process = subprocess.Popen([*guard, *command], env=environment)
    told = None
    while process.poll() is None:
        signals.wait(farm.supervisor.tend())
        if signals.stop is not None and told is None:
            told = signals.stop
            # A Ctrl-C at the terminal has reached the command already.
            if told is not signal.SIGINT:
                process.send_signal(told)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _greet(farm: Farm, *, is_default: bool) -> None:
    boards = counted(farm.settings.boards, "virtual board")
    if farm.settings.emulated:
        boards += f", {counted(farm.settings.emulated, 'emulated board')}"
    if farm.settings.usb:
        boards += " and those on USB"
    print_message(f"icebus: the farm is up: {boards}, everything in {farm.directory}")
    if not is_default:
        print_message("  another farm is this machine's default; name this one:")
        print_message(f"    export ICEBUS_FARM={farm.profile}")
    _tell_dashboard(farm)
    observer = farm.profile.with_name("observer.json")
    print_message("  in another shell:")
    print_message("    icebus devices")
    print_message("    icebus evaluate FILE.bin")
    print_message("  what crosses the bus:")
    print_message(
        f"    XDG_CONFIG_HOME=$(icebus profile show {observer} -o mosquitto) "
        "mosquitto_sub -t 'icebus/#' -v"
    )
    print_message("  Ctrl-C takes it down")


def _tell_dashboard(farm: Farm) -> None:
    """Where the web page is, or why there is none."""
    from icebus.client.local_farm.farm import DASHBOARD_LOG
    from icebus.schemas.deadline import Deadline

    if farm.dashboard is None:
        return
    running = farm.dashboard.wait_running(Deadline.after(DASHBOARD_TIMEOUT))
    if running is None:
        log = farm.directory / DASHBOARD_LOG
        where = farm.dashboard.obstacle or f"not now: it does not start (log: {log})"
    elif sys.stderr.isatty():
        where = running.make_link()
    else:
        # What is kept in a file would sign others in.
        where = f"{running.url} (`icebus dashboard --link` prints a link that signs you in)"
    print_message(f"  in a browser: {where}")


@contextlib.contextmanager
def _directory(given: Path | None, usual: Path, temporary: bool) -> Iterator[Path]:
    if given is not None or not temporary:
        yield given if given is not None else usual
        return
    place = Path(tempfile.mkdtemp(prefix="icebus-"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _login() -> str:
    from icebus.schemas.ids import to_id

    try:
        return to_id(getpass.getuser(), "user")
    except (OSError, KeyError):
        return "user"
