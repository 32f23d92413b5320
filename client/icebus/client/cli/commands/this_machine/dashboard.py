"""``icebus dashboard``: the web page of a farm."""

from __future__ import annotations

import webbrowser
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from icebus.client.cli.connecting import CONNECT_TIMEOUT, FARM
from icebus.client.cli.output.printing import print_line, print_message

if TYPE_CHECKING:
    from icebus.bus import BrokerAddress
    from icebus.client.dashboard.running import Running
    from icebus.client.dashboard.settings import Settings
    from icebus.client.dashboard.starting import Dashboard
    from icebus.schemas.supervision.service import Supervision

START_TIMEOUT = 10.0
STOP_TIMEOUT = 5.0

PATIENCE = 5.0
"""Seconds within which health is found out, unless told otherwise."""

LOOK_AFTER = 1.0
"""Seconds between looks whether it still serves."""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(dashboard)


class HealthOutput(StrEnum):
    """What `health` prints."""

    TEXT = "text"
    JSON = "json"


class Action(StrEnum):
    """What else there is to do than to serve."""

    HEALTH = "health"


def dashboard(
    action: Annotated[
        Action | None,
        typer.Argument(
            metavar="[health]",
            help="Say in one line whether the one that runs here is well; start none.",
            show_default=False,
        ),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where browsers reach it. (default: 127.0.0.1:8470, or another port if that is "
            "taken)",
        ),
    ] = None,
    open_: Annotated[
        bool, typer.Option("--open", help="Open it in this machine's browser, signed in.")
    ] = False,
    link: Annotated[
        bool,
        typer.Option(
            "--link", help="Print a link that signs in at the one that runs here; start none."
        ),
    ] = False,
    health: Annotated[
        str | None,
        typer.Option(
            "--health",
            metavar="127.0.0.1:PORT",
            envvar="ICEBUS_HEALTH",
            help="Tell health there by HTTP as well, to this machine only. (default: not at all)",
        ),
    ] = None,
    wall: Annotated[
        bool,
        typer.Option(
            "--wall",
            help="Links are for screens: good again and again, and for an observer's account only.",
        ),
    ] = False,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            help="A name that browsers reach it by, besides addresses and localhost; repeatable.",
        ),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="For TLS: certificates in PEM, its own first.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="The certificate's key, in PEM.")] = None,
    without_tls: Annotated[
        bool,
        typer.Option(
            "--without-tls",
            help="Listen beyond this machine without TLS. People's passwords can then be read on "
            "the way: for where something in front of it speaks TLS.",
        ),
    ] = False,
    output: Annotated[
        HealthOutput, typer.Option("--output", "-o", help="Of health: one line, or JSON.")
    ] = HealthOutput.TEXT,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=300.0, help="Of health: seconds to look, at most.")
    ] = PATIENCE,
    only_critical: Annotated[
        bool,
        typer.Option(
            "--only-critical",
            help="Of health: exit with 1 when critical or unknown, else with 0: what container "
            "engines expect.",
        ),
    ] = False,
) -> None:
    """Serve the farm's web page, until Ctrl-C.

    People sign in with their name and password; a link that it prints does it for the profile in
    use, once, within ten minutes.

    `icebus dashboard health` looks whether the one that runs here serves, and whether the broker
    takes its account in; it exits with 0 when all is well, 1 for a warning, 2 when it is critical
    and 3 when that can't be found out, as Nagios and its like expect.

    Examples:
      icebus dashboard
      icebus dashboard --link
      icebus dashboard health
      icebus --farm wall.json dashboard --wall
    """
    from icebus.client._profiles.profile import find_address
    from icebus.client.dashboard.built import check_packages
    from icebus.schemas.errors import Conflict

    if action is Action.HEALTH:
        _tell_health(output, timeout, only_critical)
    address = find_address(farm=FARM.get())
    if link:
        running = _running(address)
        if not running.key:
            raise Conflict(f"{address.user} has no password here, and so there are no links")
        return print_line(running.make_link())
    check_packages()
    from icebus.client.dashboard.settings import Settings, parse_listen

    host, port = parse_listen(listen or "")
    settings = Settings(host, port, tuple(name or ()), certificate, key, without_tls)
    if listen is None:
        settings = settings.on_free_port()
    from icebus.client.dashboard.health import look
    from icebus.schemas.supervision.service import Supervision

    supervision = Supervision(health)
    made = _make(address, settings, wall)
    supervision.tell_health(f"dashboard {address.user}", partial(look, address))
    return _serve(made, supervision, wall, open_)


def _tell_health(output: HealthOutput, timeout: float, only_critical: bool) -> NoReturn:
    from icebus.client._profiles.profile import find_address
    from icebus.client.dashboard.health import look
    from icebus.schemas.supervision.command import MARGIN, Output, tell, within

    farm = FARM.get()
    verdict = within("dashboard", lambda: look(find_address(farm=farm), timeout), timeout + MARGIN)
    tell(verdict, Output(output), only_critical=only_critical)


def _make(address: BrokerAddress, settings: Settings, wall: bool) -> Dashboard:
    from icebus.client._profiles.profile import find_address
    from icebus.client.dashboard.sign_in import Link
    from icebus.client.dashboard.starting import Dashboard, check_reads_only, farm_name
    from icebus.schemas.deadline import Deadline

    if wall:
        check_reads_only(address, Deadline.after(CONNECT_TIMEOUT))
    farm = FARM.get()
    return Dashboard(
        address,
        settings,
        farm_name(farm, address),
        Link.WALL if wall else Link.SIGN_IN,
        lambda: find_address(farm=farm),
    )


def _serve(dashboard: Dashboard, supervision: Supervision, wall: bool, open_: bool) -> None:
    import logging
    import sys

    from icebus.client.cli.processes.signals import Signals
    from icebus.client.dashboard.built import NOT_BUILT, is_built
    from icebus.schemas.deadline import Deadline
    from icebus.schemas.errors import InternalError
    from icebus.schemas.programs.logs import log_to_stderr

    # Who is refused, and why, is news for whoever keeps it.
    log_to_stderr(logging.INFO)
    with Signals() as signals:
        dashboard.start(Deadline.after(START_TIMEOUT))
        supervision.ready({"server": dashboard.post}, lambda: f"serves {dashboard.running.url}")
        try:
            if not is_built():
                print_message(f"icebus: {NOT_BUILT}")
            running = dashboard.running
            print_line(running.url)
            if running.key and sys.stdout.isatty():
                how = "for a screen on a wall" if wall else "good once, for ten minutes"
                print_message(f"  signed in ({how}): {running.make_link()}")
            print_message("  Ctrl-C ends it")
            if open_:
                webbrowser.open(dashboard.door())
            while signals.stop is None:
                signals.wait(Deadline.after(LOOK_AFTER))
                if not dashboard.serves:
                    raise InternalError("the dashboard has ended; its log above says why")
        finally:
            supervision.stop()
            dashboard.stop(Deadline.after(STOP_TIMEOUT))


def _running(address: BrokerAddress) -> Running:
    """The dashboard that runs here for this account.

    Raises:
        Conflict: none does, or it does not answer.
    """
    from icebus.client.dashboard.running import RunningFile
    from icebus.schemas.errors import Conflict

    running = RunningFile(address).read()
    if running is None or not running.answers:
        raise Conflict(
            f"no dashboard answers here for {address.user} at {address.host}:{address.port}; "
            "start one with `icebus dashboard`"
        )
    return running
