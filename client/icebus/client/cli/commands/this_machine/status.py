"""``icebus status``: which farms run on this machine."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from icebus.client.cli.commands.this_machine.down import (
    FarmDirectory,
    RunningFarmName,
    running_farm,
)
from icebus.client.cli.exit_codes import NOT_FOUND
from icebus.client.cli.options.shared_options import Output
from icebus.client.cli.output.printing import Column, Format, print_message, print_rows
from icebus.schemas.wording import show_duration

if TYPE_CHECKING:
    from icebus.client.local_farm.running_farms import RunningFarm

ANSWER_TIME = 2.0
"""Seconds for a farm to say how many of its boards are ready."""

FIELDS = (
    *("directory", "state", "since", "boards", "ready", "usb", "users", "broker"),
    *("dashboard", "log", "pid", "profile"),
)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(status)


def status(
    farm: RunningFarmName = None,
    directory: FarmDirectory = None,
    output: Output = Format.TABLE,
) -> None:
    """Tell which farms `icebus up` runs on this machine; the exit code is 3 where none is up.

    Examples:
      icebus status
      icebus status -o json | jq -r '.[0].dashboard'
      icebus status > /dev/null || icebus up --detach
    """
    from icebus.client.local_farm.running_farms import running_farms

    named = farm is not None or directory is not None
    running = [running_farm(farm, directory)] if named else running_farms()
    rows = [as_row(each) for each in running]
    if output is Format.TABLE:
        if not rows:
            print_message("No farm is up on this machine; `icebus up --detach` brings one up.")
            raise typer.Exit(NOT_FOUND)
        rows = [_shown(row) for row in rows]
    columns = [
        Column("directory"),
        Column("state"),
        Column("for", right=True, minor=4),
        Column("boards", right=True),
        Column("broker", minor=2),
        Column("dashboard", minor=1),
        Column("log", minor=3),
        Column("pid", right=True, minor=5),
    ]
    print_rows(rows, columns, output, "directory", FIELDS)
    if not rows:
        raise typer.Exit(NOT_FOUND)


def as_row(farm: RunningFarm) -> dict[str, Any]:
    """A farm for programs."""
    from icebus.client._profiles.farm_directory import profile_path
    from icebus.client._profiles.profile import Profile
    from icebus.client.dashboard.running import RunningFile
    from icebus.schemas.errors import IcebusError

    path = profile_path(farm.directory, farm.users[0])
    try:
        running = RunningFile(Profile.read(path).address).read()
    except IcebusError:
        running = None
    return {
        "directory": str(farm.directory),
        "state": "up" if farm.ready else "starting",
        "since": farm.since.isoformat(),
        "boards": farm.boards,
        "ready": _ready(str(path)) if farm.ready else None,
        "usb": farm.usb,
        "users": list(farm.users),
        "broker": farm.broker,
        "dashboard": running.url if running is not None and running.answers else None,
        "log": None if farm.log is None else str(farm.log),
        "pid": farm.pid,
        "profile": str(path),
    }


def _ready(profile: str) -> int | None:
    """How many boards could be used or are; None where the farm does not say so in time."""
    from icebus.client._client import Client
    from icebus.schemas.devices import DeviceState
    from icebus.schemas.errors import IcebusError

    usable = (DeviceState.READY, DeviceState.SERVING)
    try:
        with Client(farm=profile, timeout=ANSWER_TIME) as client:
            devices = client.devices(timeout=ANSWER_TIME)
    except IcebusError:
        return None
    return sum(each.fresh and each.report.state in usable for each in devices)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row for people."""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(row["since"])).total_seconds()
    of = f" of {row['boards']}" if not row["usb"] else ""
    ready = "?" if row["ready"] is None else row["ready"]
    return {**row, "for": show_duration(seconds), "boards": f"{ready}{of} ready"}
