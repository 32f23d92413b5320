"""``icebus profile``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from icebus.client.cli.connecting import FARM
from icebus.client.cli.options.completion import complete_farm, complete_saved_farm
from icebus.client.cli.output.printing import (
    Column,
    Format,
    print_json,
    print_line,
    print_message,
    print_rows,
)

COLUMNS = ("name", "user", "broker", "tls", "in_use", "expires")


app = typer.Typer(
    invoke_without_command=True,
    help="Farms that are stored here; alone, print the one in use.",
)


def add_to(parent: typer.Typer) -> None:
    """Register the commands."""
    app.callback()(profile)
    app.command("list")(list_)
    for command in (show, use, remove):
        app.command()(command)
    parent.add_typer(app, name="profile", rich_help_panel="Farm")


class ProfileFormat(StrEnum):
    """Form of a profile."""

    URL = "url"
    JSON = "json"
    MOSQUITTO = "mosquitto"


Form = Annotated[ProfileFormat, typer.Option("--output", "-o", help="Form.")]


def profile(context: typer.Context, output: Form = ProfileFormat.URL) -> None:
    """Farms that are stored here. Alone, print the one in use and who you are there.

    Examples:
      icebus profile list
      XDG_CONFIG_HOME=$(icebus profile -o mosquitto) mosquitto_sub -t 'icebus/#' -v
    """
    if context.invoked_subcommand is None:
        show(None, output)


def show(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A farm that is stored, a user of this machine's farm, or a profile's path.",
            autocompletion=complete_farm,
        ),
    ] = None,
    output: Form = ProfileFormat.URL,
) -> None:
    """Print where the farm is and who you are there, with the password.

    `-o mosquitto` prints a folder instead, in which Mosquitto's clients find all of that when
    XDG_CONFIG_HOME names it: in an argument, others on the machine would see the password.

    Examples:
      export ICEBUS_URL=$(icebus profile show observer)
      XDG_CONFIG_HOME=$(icebus profile show observer -o mosquitto) mosquitto_sub -t 'icebus/#' -v
    """
    from icebus.client._profiles.farm_directory import state_directory
    from icebus.client._profiles.profile import find_address, find_profile

    address = find_profile(name).address if name else find_address(farm=FARM.get())
    match output:
        case ProfileFormat.URL:
            print_line(address.url())
        case ProfileFormat.MOSQUITTO:
            who = f"{address.user}@{address.host}-{address.port}"
            folder = state_directory() / "mosquitto" / who
            address.write_mosquitto_options(folder)
            print_line(str(folder))
        case ProfileFormat.JSON:
            print_json(
                {
                    "url": address.url(),
                    "host": address.host,
                    "port": address.port,
                    "user": address.user,
                    "password": address.password,
                    "root": address.root,
                    "tls": address.tls,
                },
                indent=2,
            )


def list_(
    output: Annotated[Format, typer.Option("--output", "-o", help="Form.")] = Format.TABLE,
) -> None:
    """List the farms that `icebus login` has stored here; without passwords."""
    from icebus.client._profiles.profile import Profile
    from icebus.client._profiles.saved_profiles import SavedProfiles

    saved = SavedProfiles()
    current = saved.current
    rows = []
    for name in saved.names:
        stored = Profile.read(saved.path(name))
        address = stored.address
        rows.append(
            {
                "name": name,
                "user": address.user,
                "broker": f"{address.host}:{address.port}",
                "tls": address.tls,
                "in_use": name == current,
                "expires": stored.expires,
            }
        )
    print_rows(rows, [Column(key) for key in COLUMNS], output, "name")


def use(
    name: Annotated[
        str | None, typer.Argument(help="Which.", autocompletion=complete_saved_farm)
    ] = None,
    none: Annotated[
        bool, typer.Option("--none", help="The one that `icebus up` runs on this machine.")
    ] = False,
) -> None:
    """Choose the farm that is meant when none is named."""
    from icebus.client._profiles.saved_profiles import SavedProfiles
    from icebus.schemas.errors import InvalidRequest

    if none == (name is not None):
        raise InvalidRequest("give the name of a farm, or --none; `icebus profile list` has them")
    SavedProfiles().use(name)
    print_message(f"{name} is in use" if name else "this machine's own farm is in use")


def remove(
    name: Annotated[str, typer.Argument(help="Which.", autocompletion=complete_saved_farm)],
) -> None:
    """Forget a farm that is stored here, and its password; the farm knows you still."""
    from icebus.client._profiles.saved_profiles import SavedProfiles

    SavedProfiles().remove(name)
    print_message(f"{name} removed")
