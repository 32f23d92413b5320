"""``icebus-broker``: a broker that stands by itself, and the people it knows."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from icebus.broker.access import CERTIFIED, Principal
from icebus.broker.accounts import barred
from icebus.broker.bridge import Upstream
from icebus.broker.cli import removal, running, setup_commands
from icebus.broker.cli.command_options import (
    CredentialsFile,
    Directory,
    check_name,
    configured,
    say,
)
from icebus.broker.cli.handing_over import Wanted, let_in, parse_end, parse_span
from icebus.broker.cli.setup_commands import warnings_of
from icebus.broker.directory import BrokerDirectory
from icebus.broker.other_brokers import ACCESS_LISTS, AccessListForm
from icebus.bus import BrokerAddress
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import (
    Conflict,
    IcebusError,
    InvalidRequest,
    UnknownPrincipal,
)
from icebus.schemas.ids import BROKER, is_id
from icebus.schemas.programs.log_options import tell_failure
from icebus.schemas.programs.logs import log_to_stderr
from icebus.schemas.supervision.command import EXIT_CODES, run_commands
from icebus.schemas.topics import Role

EXIT_FAILED = 1
"""The program could not do what was asked; stderr says why. Wrong usage is 2."""

START_TIMEOUT = 5.0
"""Seconds for Mosquitto to be there again, when it is started anew for what was changed."""

ROLE_WIDTH = max(len(each.value) for each in Role)

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


class Output(StrEnum):
    """What ``list`` prints."""

    TABLE = "table"
    JSON = "json"


setup_commands.add_to(app)


Groups = Annotated[
    list[str] | None,
    typer.Option(
        "--group", help="Control's file of limits says what it may have; may be given repeatedly."
    ),
]


@app.command(epilog="Example: icebus-broker add alice --role user -d /srv/icebus")
def add(
    name: Annotated[str, typer.Argument(help="Letters, digits, _ and -; unique over all roles.")],
    directory: Directory,
    role: Annotated[Role, typer.Option(help="What they may do.")],
    new_password: Annotated[
        bool,
        typer.Option(
            "--new-password",
            help="Replace the password or the certificate of a name that is known; the former "
            "stays good for a day, or what `overlap` says.",
        ),
    ] = False,
    now: Annotated[
        bool,
        typer.Option(
            "--now", help="With --new-password: what they had ends at once, and who uses it."
        ),
    ] = False,
    speaks_for: Annotated[
        list[str] | None,
        typer.Option("--for", help="A worker of a bridged site; may be given repeatedly."),
    ] = None,
    group: Groups = None,
    expires: Annotated[
        str | None,
        typer.Option(metavar="DATE|30d", help="When the account ends; never when left out."),
    ] = None,
    valid: Annotated[
        str, typer.Option(metavar="7d", help="How long the line is good that people get.")
    ] = "3d",
    keep_password: Annotated[
        bool,
        typer.Option(
            "--keep-password",
            help="Make a password at once and keep it in the clear, for HiveMQ's list.",
        ),
    ] = False,
    output: CredentialsFile = None,
) -> None:
    """Let somebody in, and print what they connect with. It is shown only once.

    For users and admins that is one line, which they give to `icebus login` within days: that makes
    a password that nobody else knows, and the line is worthless then. Others get a URL or, where
    certificates belong to it, the contents of a credentials file; with -o FILE users do too.
    """
    check_name(name)
    if BROKER in (name, role):
        raise InvalidRequest(f"{BROKER!r} is the broker's own service; choose another")
    files = BrokerDirectory(directory)
    configured(files)
    wanted = Wanted(
        output=output,
        valid=parse_span(valid),
        expires=None if expires is None else parse_end(expires),
        keep_password=keep_password,
        now=now,
    )
    if now and not new_password:
        raise InvalidRequest("--now goes with --new-password; `icebus-broker remove` ends all")
    before = files.principals.get(name)
    if before is not None and before.role is not role:
        raise Conflict(f"{name!r} is a {before.role}; remove that one first, or choose another")
    if before is not None and not new_password:
        raise Conflict(f"{name!r} is known; --new-password makes them a new one")
    principal = Principal(id=name, role=role, speaks_for=workers_of(speaks_for))
    if group is not None:
        principal = principal.model_copy(update={"groups": checked_groups(group)})
    let_in(files, principal, wanted)
    say_if_none_reloads(files)


@app.command("group", epilog="Example: icebus-broker group ben --group students -d /srv/icebus")
def regroup(
    name: Annotated[str, typer.Argument(help="Who.")],
    directory: Directory,
    group: Groups = None,
    none: Annotated[bool, typer.Option("--none", help="Take them out of all groups.")] = False,
) -> None:
    """Put somebody into groups, and into no others; their password stays."""
    if none == bool(group):
        raise InvalidRequest("give --group for each of the groups, or --none")
    files = BrokerDirectory(directory)
    configured(files)
    groups = checked_groups(group or [])
    files.set_groups(name, groups)
    typer.echo(f"{name}: {', '.join(groups) or 'no groups'}")
    say_if_none_reloads(files)


@app.command(epilog="Example: icebus-broker expires alice 30d -d /srv/icebus")
def expires(
    name: Annotated[str, typer.Argument(help="Who.")],
    directory: Directory,
    when: Annotated[
        str | None, typer.Argument(metavar="DATE|30d", help="When the account ends.")
    ] = None,
    never: Annotated[bool, typer.Option("--never", help="It does not end by itself.")] = False,
) -> None:
    """Have somebody's account end at another time; their password stays."""
    if never == (when is not None):
        raise InvalidRequest("give a date or a span of time, or --never")
    files = BrokerDirectory(directory)
    settings = configured(files)
    end = None if when is None else parse_end(when)

    def change(known: Principal) -> Principal:
        if settings.tls is not None and known.role in CERTIFIED:
            raise InvalidRequest(
                f"{name!r} has a certificate, which ends in its time; `icebus-broker renew {name}` "
                "makes a new one"
            )
        return known.model_copy(update={"expires": end})

    files.change(name, change)
    typer.echo(f"{name}: {'does not end' if end is None else f'ends {end:%Y-%m-%d %H:%M} UTC'}")
    say_if_none_reloads(files)


@app.command(epilog="Example: icebus-broker overlap 8h -d /srv/icebus")
def overlap(
    directory: Directory,
    span: Annotated[
        str | None,
        typer.Argument(metavar="8h|0", help="What it is from now on; 0 for not at all."),
    ] = None,
) -> None:
    """Say how long what is replaced stays good, or have that be another span.

    That is passwords, and certificates of workers, controls and sites.
    """
    files = BrokerDirectory(directory)
    configured(files)
    if span is not None:
        files.set_overlap(timedelta(0) if span.strip() == "0" else parse_span(span))
    typer.echo(f"{files.overlap.total_seconds() / 3600:g}h")


def checked_groups(names: list[str]) -> tuple[str, ...]:
    """The groups named.

    Raises:
        InvalidRequest: one can't be a group's name.
    """
    for each in names:
        if not is_id(each):
            raise InvalidRequest(f"{each!r} is no group: 1 to 64 letters, digits, _ and -")
    return tuple(sorted(set(names)))


@app.command(epilog="Example: icebus-broker bridge oslo.json --for oslo1 -d /srv/icebus")
def bridge(
    directory: Directory,
    farm: Annotated[
        str | None,
        typer.Argument(
            help="The credentials file that `add NAME --role worker --for WORKER -o FILE` wrote at "
            "the farm, or its URL."
        ),
    ] = None,
    speaks_for: Annotated[
        list[str] | None,
        typer.Option("--for", help="A worker of this site; may be given repeatedly."),
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Be a farm by itself again.")] = False,
) -> None:
    """Make this the broker of a site: its workers serve the farm over one connection."""
    if off == (farm is not None) or off == bool(speaks_for):
        raise InvalidRequest("give the farm's credentials and --for each worker here, or --off")
    files = BrokerDirectory(directory)
    upstream = None
    if farm is not None:
        upstream = Upstream.at(BrokerAddress.parse(farm), workers_of(speaks_for))
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
    people = list(files.principals.values())
    if form is not AccessListForm.MOSQUITTO:
        # Our service runs beside no other broker.
        people = [each for each in people if each.role is not Role.BROKER]
    typer.echo(ACCESS_LISTS[form](people, root), nl=False)


@app.command(epilog="Example: icebus-broker remove alice -d /srv/icebus")
def remove(
    name: Annotated[str, typer.Argument(help="Who.")],
    directory: Directory,
    wait: Annotated[bool, typer.Option(help="For control to end what they had.")] = True,
) -> None:
    """Shut somebody out, at once if the broker runs, and say what ends with that.

    Control ends what they had: reservations, places in the queue, offers, a worker's boards.
    """
    files = BrokerDirectory(directory)
    if not files.exists:
        raise UnknownPrincipal(f"there is no broker in {directory}")
    removal.remove(files, name, wait)
    say_if_none_reloads(files)


@app.command("list", epilog="Example: icebus-broker list -d /srv/icebus -o json")
def list_(
    directory: Directory,
    output: Annotated[Output, typer.Option("--output", "-o", help="Shape.")] = Output.TABLE,
) -> None:
    """Show who is known, without passwords."""
    files = BrokerDirectory(directory)
    known = (each for each in files.principals.values() if each.role is not Role.BROKER)
    people = sorted(known, key=lambda each: (each.role, each.id))
    if output is Output.JSON:
        typer.echo(json.dumps([_row(each) for each in people]))
        return
    for warning in warnings_of(files):
        say(warning)
    width = max((len(each.id) for each in people), default=0)
    for each in people:
        typer.echo(f"{each.id:{width}}  {each.role.value:{ROLE_WIDTH}}{_until(each)}".rstrip())
    pid = files.pid
    say(f"running, pid {pid}" if pid is not None else "not running")


app.command(epilog="Example: icebus-broker run -d /srv/icebus")(running.run)
app.command("health", epilog=EXIT_CODES)(running.tell_health)


def _row(each: Principal) -> dict[str, object]:
    until = barred(each, datetime.now(UTC))
    return {
        "name": each.id,
        "role": each.role.value,
        "invited": each.invited_until is not None,
        "expires": None if each.ends is None else each.ends.isoformat(),
        "barred_until": None if until is None else until.isoformat(),
    }


def _until(each: Principal) -> str:
    if (until := barred(each, datetime.now(UTC))) is not None:
        return f"  publishes nothing until {until:%H:%M:%S} UTC, as it flooded the broker"
    if each.ends is None:
        return ""
    verb = "ended" if each.ends <= datetime.now(UTC) else "ends"
    what = "  invitation" if each.invited_until is not None else ""
    return f"{what}  {verb} {each.ends:%Y-%m-%d %H:%M} UTC"


def workers_of(names: list[str] | None) -> tuple[str, ...]:
    """The workers named, each once.

    Raises:
        InvalidRequest: one can't be a worker's name.
    """
    for name in names or ():
        check_name(name)
    return tuple(dict.fromkeys(names or ()))


def say_if_none_reloads(files: BrokerDirectory) -> None:
    """Say whether a running broker has learnt of a change."""
    files.wait_until_started(Deadline.after(START_TIMEOUT))
    if files.pid is None:
        say(
            "its broker does not run now, and knows of it when `icebus-broker run` starts; a "
            "Mosquitto of your own needs a SIGHUP"
        )


def main() -> None:
    """Entry point of ``icebus-broker``."""
    log_to_stderr(logging.WARNING, "%(levelname)s %(message)s")
    try:
        run_commands(app)
    except IcebusError as error:
        tell_failure("error", error.message)
        sys.exit(EXIT_FAILED)
    except OSError as error:
        tell_failure("error", f"{error}; is the directory yours?")
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
