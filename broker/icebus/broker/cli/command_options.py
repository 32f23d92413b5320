"""What the commands of ``icebus-broker`` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from icebus.broker.directory import BrokerDirectory, Settings
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.ids import is_id

Directory = Annotated[
    Path,
    typer.Option(
        "--directory",
        "-d",
        envvar="ICEBUS_BROKER_DIRECTORY",
        help="Where the broker keeps everything.",
    ),
]

CertificateFile = Annotated[
    Path | None,
    typer.Option(
        "--certificate",
        metavar="FILE",
        help="Of the broker, from an authority of the lab's own or a public one, with those that "
        "lead to its root; PEM.",
    ),
]
KeyFile = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="Of that certificate; PEM.")
]
AuthorityFile = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        metavar="FILE",
        help="The root of that certificate, for clients; left out where every system trusts it.",
    ),
]
CredentialsFile = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write a credentials file, which is all that its machine needs, instead of printing.",
    ),
]


def configured(files: BrokerDirectory) -> Settings:
    """What the broker listens on.

    Raises:
        InvalidRequest: there is none.
    """
    settings = files.settings
    if settings is None:
        raise InvalidRequest(
            f"there is no broker in {files.path}; "
            f"make one with `icebus-broker init -d {files.path}`"
        )
    return settings


def check_name(name: str) -> None:
    """Refuse what can't be anybody's name.

    Raises:
        InvalidRequest: it can't.
    """
    if not is_id(name):
        raise InvalidRequest(f"{name!r} is no name: 1 to 64 letters, digits, _ and -")


def say(text: str) -> None:
    """Tell people, beside what programs read on stdout."""
    typer.echo(text, err=True)
