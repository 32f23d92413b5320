"""``icebus up``: a farm of virtual boards on this machine, for as long as it runs."""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icebus.client.cli.exit_codes import FAILED
from icebus.client.cli.output.printing import print_message
from icebus.client.cli.output.progress import waiting_message
from icebus.schemas.wording import counted

if TYPE_CHECKING:
    from icebus.client.cli.processes.detaching import Background
    from icebus.client.cli.processes.signals import Signals
    from icebus.client.local_farm.farm import Farm

READY_TIMEOUT = 120.0
"""Seconds for all boards to be ready; a hundred virtual ones on two cores take half a minute."""

USUAL_BOARDS = 4

UP_LOG = "up.log"
"""Where a farm in the background tells what happens."""

DASHBOARD_TIMEOUT = 5.0
"""Seconds for the web page to be served, once all boards are ready."""


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
        typer.Option(
            min=0.0, help="Bytes per second of a board's USB; 0: no limit. (default: 1000000)"
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Makes serials and measurements repeatable. (default: 0)")
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
    detach: Annotated[
        bool,
        typer.Option(
            "--detach",
            help="Go on in the background once it is up; `icebus down` ends it, `icebus status` "
            "tells of it. Its log is up.log in the directory.",
        ),
    ] = False,
) -> None:
    """Bring up a farm on this machine: broker, control, worker and virtual boards.

    It runs until Ctrl-C or `icebus down`, or, with a command, until that ends; `icebus up` then
    exits with the command's code. Passwords and reservations are kept in the directory. Boards that
    it had there before and has no more are forgotten, unless somebody holds them.

    Examples:
      icebus up
      icebus up --boards 8 --speedup 20
      icebus up --boards 0 --usb
      icebus up --boards 2 -- icebus evaluate -n 2 blink.bin
      icebus up --emulated 1
      icebus up --detach
    """
    from icebus.client._profiles.farm_directory import state_directory
    from icebus.client.cli.processes.child_process import check_command
    from icebus.client.cli.processes.signals import Signals
    from icebus.client.local_farm.farm import Farm, FarmSettings

    if command and detach:
        raise typer.BadParameter("a command is run in front: leave --detach out, or the command")
    if command:
        check_command(command)
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
        farm = Farm(settings, print_message)
        background = _detach(farm) if detach else None
        if detach and background is None:
            return  # the one in front is done
        with Signals() as signals:
            try:
                code = _serve(farm, signals, command or [], background)
            finally:
                farm.stop()
    if code:
        raise typer.Exit(code)


def _detach(farm: Farm) -> Background | None:
    """Go on in the background; None in front, once the farm is up.

    Raises:
        typer.Exit: it did not come up, which has been told.
    """
    from icebus.client.cli.processes.detaching import Background, detach
    from icebus.client.local_farm.supervisor import tail

    log = farm.directory / UP_LOG
    started = detach(log)
    if isinstance(started, Background):
        return started
    with waiting_message(f"starting {counted(farm.settings.all_boards, 'board')}"):
        code = started.wait_ready()
    if code is not None:
        print_message(f"icebus: the farm did not come up; {log} ends with\n{tail(log)}")
        raise typer.Exit(code if code > 0 else FAILED)
    _greet(farm)
    return None


def _serve(
    farm: Farm, signals: Signals, command: Sequence[str], background: Background | None
) -> int:
    from icebus.schemas.deadline import Deadline

    log = None if background is None else background.log
    farm.start()
    farm.tell_runs(ready=False, log=log)

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
    notes = farm.retire_former()
    farm.tell_runs(ready=True, log=log, notes=notes)
    if command:
        _tell_notes(notes)
        return _run(farm, signals, command)
    farm.make_default()
    if farm.dashboard is not None:
        farm.dashboard.wait_running(Deadline.after(DASHBOARD_TIMEOUT))
    if background is None:
        _greet(farm)
    else:
        print_message(f"icebus: the farm is up, in {farm.directory}")
        background.tell_ready()
    while signals.stop is None:
        signals.wait(farm.supervisor.tend())
    print_message("icebus: taking the farm down")
    return 0


def _run(farm: Farm, signals: Signals, command: Sequence[str]) -> int:
    """Run the command on the farm; returns its exit code as a shell would."""
    from icebus.client.cli.processes.child_process import ChildProcess

    environment = {**os.environ, "ICEBUS_FARM": str(farm.profile)}
    environment.pop("ICEBUS_URL", None)
    environment.pop("ICEBUS_RESERVATION", None)
    return ChildProcess(command, environment).wait(signals, farm.supervisor.tend)


def _greet(farm: Farm) -> None:
    """Say that it is up, and how to go on from here."""
    from icebus.client.local_farm.running_farms import read

    boards = counted(farm.settings.boards, "virtual board")
    if farm.settings.emulated:
        boards += f", {counted(farm.settings.emulated, 'emulated board')}"
    if farm.settings.usb:
        boards += " and those on USB"
    print_message(f"icebus: the farm is up: {boards}, everything in {farm.directory}")
    if not farm.is_default:
        print_message("  another farm is this machine's default; name this one:")
        print_message(f"    export ICEBUS_FARM={farm.profile}")
    if farm.settings.dashboard:
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
    told = read(farm.directory)
    if told is not None:
        _tell_notes(told.notes)
    if told is not None and told.log is not None:
        print_message(f"  the broker listens on {told.broker}; the log is {told.log}")
        name = "" if farm.is_default else f" {shlex.quote(str(farm.directory))}"
        print_message(f"  `icebus down{name}` takes it down")
    else:
        print_message("  Ctrl-C takes it down")


def _tell_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print_message(f"  {note}")


def _tell_dashboard(farm: Farm) -> None:
    """Where the web page is, or why there is none."""
    from icebus.client._profiles.profile import Profile
    from icebus.client.dashboard.running import RunningFile
    from icebus.client.local_farm.dashboard import obstacle
    from icebus.client.local_farm.farm import DASHBOARD_LOG

    running = RunningFile(Profile.read(farm.profile).address).read()
    if running is None or not running.answers:
        log = farm.directory / DASHBOARD_LOG
        where = obstacle() or f"not now: it does not start (log: {log})"
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
