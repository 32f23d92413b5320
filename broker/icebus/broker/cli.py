"""``icebus-broker``: a broker that stands by itself, and the people it knows."""

from __future__ import annotations

import json
import logging
import platform
import re
import signal
import sys
import threading
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from icebus.broker.access import Principal
from icebus.broker.bridge import Upstream
from icebus.broker.directory import BrokerDirectory, Settings
from icebus.broker.embedded import EmbeddedBroker, free_port
from icebus.broker.mosquitto import LOOPBACK
from icebus.broker.other_brokers import ACCESS_LISTS, AccessListForm
from icebus.bus import BrokerAddress, check_root
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import (
    BrokerUnavailable,
    Conflict,
    IcebusError,
    InvalidRequest,
    UnknownPrincipal,
)
from icebus.schemas.ids import is_id
from icebus.schemas.logs import log_to_stderr, printable
from icebus.schemas.topics import DEFAULT_ROOT, Role

EXIT_FAILED = 1
"""The program could not do what was asked; stderr says why. Wrong usage is 2."""

START_TIMEOUT = 10.0
STOP_TIMEOUT = 10.0
CHECK_INTERVAL = 0.5

_HOST = re.compile(r"[A-Za-z0-9._:-]+")
ANYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104

app = typer.Typer(
    help="Set up and run a broker for icebus: Mosquitto with credentials and an access list made "
    "from the topic contract.",
    epilog="`icebus up` runs a broker by itself; its directory can be given here too, to let more "
    "people in while it runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Directory = Annotated[
    Path,
    typer.Option(
        "--directory",
        "-d",
        envvar="ICEBUS_BROKER_DIRECTORY",
        help="Where the broker keeps everything.",
    ),
]


class Output(StrEnum):
    """What ``list`` prints."""

    TABLE = "table"
    JSON = "json"


@app.command(epilog="Example: icebus-broker configure -d /srv/icebus --listen 0.0.0.0 --port 1883")
def configure(
    directory: Directory,
    listen: Annotated[str, typer.Option(help="Address to listen on.")] = LOOPBACK,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port; a free one when left out.")
    ] = None,
    root: Annotated[str, typer.Option(help="Root of the topics.")] = DEFAULT_ROOT,
) -> None:
    """Write mosquitto.conf, passwords and acl, keeping the people that are known."""
    check_root(root)
    if _HOST.fullmatch(listen) is None:
        raise InvalidRequest(f"{listen!r} is no address to listen on")
    files = BrokerDirectory(directory)
    known = files.settings
    if port is None:
        port = known.port if known is not None else free_port()
    files.configure(Settings(host=listen, port=port, root=root))
    typer.echo(files.configuration)
    if listen not in {LOOPBACK, "::1", "localhost"}:
        say("passwords cross the network in the clear: trust it, or put TLS in front")
    say(f"next: icebus-broker add NAME --role user -d {directory}")


@app.command(epilog="Example: icebus-broker add alice --role user -d /srv/icebus")
def add(
    name: Annotated[str, typer.Argument(help="Letters, digits, _ and -; unique over all roles.")],
    directory: Directory,
    role: Annotated[Role, typer.Option(help="What they may do.")],
    new_password: Annotated[
        bool, typer.Option("--new-password", help="Replace the password of a name that is known.")
    ] = False,
    speaks_for: Annotated[
        list[str] | None,
        typer.Option("--for", help="A worker of a bridged site; may be given repeatedly."),
    ] = None,
) -> None:
    """Let somebody in, and print the URL they connect with. It is shown only once."""
    if not is_id(name):
        raise InvalidRequest(f"{name!r} is no name: 1 to 64 letters, digits, _ and -")
    files = BrokerDirectory(directory)
    settings = configured(files)
    before = files.principals.get(name)
    if before is not None and before.role is not role:
        raise Conflict(f"{name!r} is a {before.role}; remove that one first, or choose another")
    if before is not None and not new_password:
        raise Conflict(f"{name!r} is known; --new-password makes a new URL for them")
    principal = Principal(id=name, role=role, speaks_for=workers_of(speaks_for))
    if before is not None:
        # Said in so many words, so that the known password does not stand.
        principal = principal.model_copy(update={"password": principal.password})
    files.add_principals([principal])
    host = platform.node() if settings.host in ANYWHERE else settings.host
    address = BrokerAddress(host, settings.port, name, principal.password, settings.root)
    typer.echo(address.url())
    say_if_none_reloads(files)


@app.command(
    epilog="Example: icebus-broker bridge mqtt://oslo:...@farm:1883 --for oslo1 -d /srv/icebus"
)
def bridge(
    directory: Directory,
    url: Annotated[
        str | None,
        typer.Argument(help="Of the farm, as `add NAME --role worker --for WORKER` printed it."),
    ] = None,
    speaks_for: Annotated[
        list[str] | None,
        typer.Option("--for", help="A worker of this site; may be given repeatedly."),
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Be a farm by itself again.")] = False,
) -> None:
    """Make this the broker of a site: its workers serve the farm over one connection."""
    if off == (url is not None) or off == bool(speaks_for):
        raise InvalidRequest("give the farm's URL and --for each worker here, or --off")
    files = BrokerDirectory(directory)
    upstream = None if url is None else Upstream(url=url, workers=workers_of(speaks_for))
    files.bridge(upstream)
    say("bridged from its next start on" if upstream else "no bridge from its next start on")


@app.command(epilog="Example: icebus-broker access --form emqx -d /srv/icebus > acl.conf")
def access(
    directory: Directory,
    form: Annotated[
        AccessListForm, typer.Option(help="For which broker.")
    ] = AccessListForm.MOSQUITTO,
) -> None:
    """Print the access list for this broker or another; HiveMQ's has passwords in the clear."""
    files = BrokerDirectory(directory)
    root = configured(files).root
    typer.echo(ACCESS_LISTS[form](files.principals.values(), root), nl=False)


@app.command(epilog="Example: icebus-broker remove alice -d /srv/icebus")
def remove(
    name: Annotated[str, typer.Argument(help="Who.")],
    directory: Directory,
) -> None:
    """Shut somebody out, at once if the broker runs."""
    files = BrokerDirectory(directory)
    if not files.exists:
        raise UnknownPrincipal(f"there is no broker in {directory}")
    files.remove_principal(name)
    typer.echo(f"{name} removed")
    say_if_none_reloads(files)


@app.command("list", epilog="Example: icebus-broker list -d /srv/icebus -o json")
def list_(
    directory: Directory,
    output: Annotated[Output, typer.Option("--output", "-o", help="Shape.")] = Output.TABLE,
) -> None:
    """Show who is known, without passwords."""
    files = BrokerDirectory(directory)
    people = sorted(files.principals.values(), key=lambda each: (each.role, each.id))
    if output is Output.JSON:
        typer.echo(json.dumps([{"name": each.id, "role": each.role.value} for each in people]))
        return
    width = max((len(each.id) for each in people), default=0)
    for each in people:
        typer.echo(f"{each.id:{width}}  {each.role.value}")
    pid = files.pid
    say(f"running, pid {pid}" if pid is not None else "not running")


@app.command(epilog="Example: icebus-broker run -d /srv/icebus")
def run(directory: Directory) -> None:
    """Run the broker until interrupted."""
    files = BrokerDirectory(directory)
    settings = configured(files)
    broker = EmbeddedBroker(
        directory, [], root=settings.root, port=settings.port, host=settings.host
    )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _signal, _frame: stop.set())
    broker.start(Deadline.after(START_TIMEOUT))
    say(f"listening on {settings.host}:{settings.port}, log in {broker.directory}/mosquitto.log")
    while not stop.wait(CHECK_INTERVAL):
        if not broker.child.running:
            raise BrokerUnavailable(
                f"Mosquitto ended; {broker.directory}/mosquitto.log has its last words"
            )
    broker.stop(Deadline.after(STOP_TIMEOUT))
    say("stopped")


def workers_of(names: list[str] | None) -> tuple[str, ...]:
    """The workers named, each once.

    Raises:
        InvalidRequest: one can't be a worker's name.
    """
    for name in names or ():
        if not is_id(name):
            raise InvalidRequest(f"{name!r} is no name: 1 to 64 letters, digits, _ and -")
    return tuple(dict.fromkeys(names or ()))


def configured(files: BrokerDirectory) -> Settings:
    """What the broker listens on.

    Raises:
        InvalidRequest: it was never configured.
    """
    settings = files.settings
    if settings is None:
        raise InvalidRequest(
            f"there is no broker in {files.path}; "
            f"make one with `icebus-broker configure -d {files.path}`"
        )
    return settings


def say_if_none_reloads(files: BrokerDirectory) -> None:
    """Say whether a running broker has learnt of a change."""
    if files.pid is None:
        say("no broker of ours runs there; tell a Mosquitto of your own with SIGHUP")


def say(text: str) -> None:
    """Tell people, beside what programs read on stdout."""
    typer.echo(printable(text, "\n"), err=True)


def main() -> None:
    """Entry point of ``icebus-broker``."""
    log_to_stderr(logging.WARNING, "%(levelname)s %(message)s")
    try:
        app()
    except IcebusError as error:
        say(f"error: {error.message}")
        sys.exit(EXIT_FAILED)
    except OSError as error:
        say(f"error: {error}; is the directory yours?")
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
