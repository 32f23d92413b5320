"""``icebus profile``."""

from __future__ import annotations

import shlex
from enum import StrEnum
from typing import Annotated

import typer

from icebus.client.cli.connecting import PROFILE
from icebus.client.cli.output import print_json, print_line


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(profile)


class ProfileFormat(StrEnum):
    """Form of a profile."""

    URL = "url"
    JSON = "json"
    MOSQUITTO = "mosquitto"


def profile(
    name: Annotated[
        str | None, typer.Argument(help="A user of this machine's farm, or a profile's path.")
    ] = None,
    output: Annotated[ProfileFormat, typer.Option("--output", "-o", help="Form.")] = (
        ProfileFormat.URL
    ),
) -> None:
    """Print where the farm is and who you are there, with the password.

    Examples:
      export ICEBUS_URL=$(icebus profile)
      mosquitto_sub $(icebus profile observer -o mosquitto) -t 'icebus/#' -v
    """
    from icebus.bus import BrokerAddress
    from icebus.client._farm_directory import state_directory
    from icebus.client._profile import find_address, find_profile

    if name is None:
        address = find_address(profile=PROFILE.get())
    else:
        address = BrokerAddress.of(find_profile(name))
    match output:
        case ProfileFormat.URL:
            print_line(address.url())
        case ProfileFormat.MOSQUITTO:
            # Those programs take certificates from files only.
            options = address.mosquitto_options(state_directory() / "certificates")
            print_line(shlex.join(options))
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
