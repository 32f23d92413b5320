"""``icebus login`` and ``icebus passwd``: an account of one's own at a farm."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from icebus.client.cli.connecting import FARM
from icebus.client.cli.output.printing import print_line, print_message

LONGEST = 1 << 16
"""Bytes of what may be read from stdin."""


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(login)
    app.command()(passwd)


def login(
    where: Annotated[
        str | None,
        typer.Argument(
            metavar="LINE|FILE|URL",
            help="What you were given; - reads it from stdin. Asked for when left out.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="To store it under. [default: the host's]")
    ] = None,
) -> None:
    """Store a farm, after trying whether it takes you in.

    The line that `icebus-broker add` prints is good once: a password that nobody else knows is made
    and stored here, and the line is worthless then. Neither it nor a password belongs on a command
    line, where other accounts of the machine see it: both are asked for.

    Examples:
      icebus login
      icebus login - < line.txt
      icebus login alice.json --name lab
      icebus login mqtts://alice@farm.example.org
    """
    from icebus.client._profiles.login import log_in

    given = _given(where)
    if not given.strip():
        raise typer.BadParameter(
            "nothing was given: paste the line that `icebus-broker add` printed where it is asked "
            "for, or name a file: icebus login - < line.txt"
        )
    done = log_in(_with_password(given), name)
    address = done.profile.address
    role = f", {done.role}" if done.role else ""
    print_line(f"{done.name}: {address.user}{role} at {address.host}:{address.port}")
    if done.profile.expires is not None:
        print_message(f"the account ends on {done.profile.expires:%Y-%m-%d %H:%M} UTC")
    if done.is_default:
        print_message("it is the farm that is meant when none is named")
    else:
        print_message(
            f"`icebus profile use {done.name}` makes it the farm that is meant by default"
        )


def passwd(
    now: Annotated[
        bool,
        typer.Option(
            "--now",
            help="End the former password at once: somebody else may know it. Programs that use "
            "it elsewhere are ended.",
        ),
    ] = False,
) -> None:
    """Replace your password at the farm by another that nobody knows, and store it here.

    The former one stays good for a day unless the broker has been told otherwise, so that nothing
    that runs ends: programs of this machine take the new one by themselves, others have to log in
    anew. A farm that is not stored has no password to replace: `icebus login` stores it.

    Examples:
      icebus passwd
      icebus passwd --now
      icebus --farm lab passwd
    """
    from icebus.client._profiles.account import choose_password
    from icebus.client._profiles.login import current_path

    path = current_path(FARM.get())
    profile = choose_password(path, now)
    print_line(f"{path.stem}: {profile.user} has another password")
    if not now:
        print_message("the former one ends in a day; log in anew on your other machines")


def _given(where: str | None) -> str:
    if where == "-" or (where is None and not sys.stdin.isatty()):
        return sys.stdin.read(LONGEST).strip()
    if where is None:
        return str(typer.prompt("Line, URL or file", hide_input=True, err=True))
    from icebus.bus import BrokerAddress
    from icebus.client._profiles.login import clean

    if clean(where).startswith("icebus://"):
        print_message(
            "other accounts of this machine could see that line on the command line; if they were "
            "quicker, it is refused now, and you need another: next time paste it when asked"
        )
    elif where.startswith(("mqtt://", "mqtts://")) and BrokerAddress.parse(where).password:
        print_message(
            "other accounts of this machine could see that password on the command line; "
            "`icebus passwd` replaces it"
        )
    return where


def _with_password(text: str) -> str:
    """The same, with the password that a URL lacks, if there is somebody to ask for it."""
    from dataclasses import replace

    from icebus.bus import BrokerAddress

    if not text.startswith(("mqtt://", "mqtts://")) or not sys.stdin.isatty():
        return text
    address = BrokerAddress.parse(text)
    if address.password:
        return text
    asked = typer.prompt(f"Password of {address.user}", hide_input=True, err=True)
    return replace(address, password=str(asked)).url()
