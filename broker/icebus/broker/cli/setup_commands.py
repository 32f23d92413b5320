"""``icebus-broker init`` and ``renew``: a broker that is closed and encrypted from the start."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from icebus.broker.access import Principal
from icebus.broker.cli.command_options import (
    AuthorityFile,
    CertificateFile,
    CredentialsFile,
    Directory,
    KeyFile,
    configured,
    say,
)
from icebus.broker.directory import BrokerDirectory, Settings
from icebus.broker.embedded import free_port
from icebus.broker.mosquitto import LOOPBACK
from icebus.broker.tls.authority import COMPONENT_LIFE
from icebus.broker.tls.certificates import SOON, GivenCertificate, Listening
from icebus.bus import BrokerAddress, check_root
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.topics import DEFAULT_ROOT

PORT = 8883
"""IANA's for MQTT with TLS."""

COMPONENT_PORT = 8884

ACCOUNT_SOON = timedelta(days=7)
"""How long before its end an account is warned of, as its owner is."""

INVITATION_SOON = timedelta(days=1)
"""The same of an invitation, which is good for some days only."""

_HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}")


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(
        epilog="Example: icebus-broker init -d /srv/icebus --host farm.example.org --listen 0.0.0.0"
    )(init)
    app.command(epilog="Example: icebus-broker renew lab1 -o lab1.json -d /srv/icebus")(renew)


def init(
    directory: Directory,
    host: Annotated[
        list[str] | None,
        typer.Option(
            help="Name or address that the broker is reached by; may be given repeatedly, the "
            "first stands in what `add` prints. [default: this machine's name]"
        ),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on with TLS; 0.0.0.0 for all of IPv4, :: for all of IPv6. "
            "[default: 127.0.0.1, only this machine]"
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help=f"For people, with passwords. [default: {PORT}]"),
    ] = None,
    component_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help=f"For workers, controls and sites, with certificates. [default: {COMPONENT_PORT}]",
        ),
    ] = None,
    plain_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help=f"Without TLS, on {LOOPBACK} and nowhere else. [default: a free one]",
        ),
    ] = None,
    root: Annotated[
        str | None, typer.Option(help=f"Root of the topics. [default: {DEFAULT_ROOT}]")
    ] = None,
    certificate: CertificateFile = None,
    key: KeyFile = None,
    ca: AuthorityFile = None,
) -> None:
    """Make a broker with TLS and an authority of its own, or change what it listens on.

    Whom it knows stays, and so does what is not said again.
    """
    given = given_certificate(certificate, key, ca)
    files = BrokerDirectory(directory)
    known = files.settings
    before = known.tls if known else None
    for name in (*(host or ()), *([listen] if listen else ())):
        if _HOST.fullmatch(name) is None:
            raise InvalidRequest(f"{name!r} is no name or address of a machine")
    if root is not None:
        check_root(root)
    tls = Listening(
        address=listen or (before.address if before else LOOPBACK),
        port=port or (before.port if before else PORT),
        component_port=component_port or (before.component_port if before else COMPONENT_PORT),
        hosts=hosts_of(host or []) if host or not before else before.hosts,
        own=given is None and (before is None or before.own),
    )
    plain = plain_port or (known.port if known else free_port())
    if len({tls.port, tls.component_port, plain}) != 3:
        raise InvalidRequest("each of the three listeners needs a port of its own")
    settings = Settings(
        host=LOOPBACK,
        port=plain,
        root=root or (known.root if known else DEFAULT_ROOT),
        tls=tls,
    )
    files.configure(settings, given)
    typer.echo(files.configuration)
    say(
        f"with TLS on {tls.address}: port {tls.port} for people, {tls.component_port} for workers "
        f"and controls; its certificate is good until {files.certificates.ends:%Y-%m-%d}"
    )
    if files.pid is None:
        say(f"next: icebus-broker add NAME --role user -d {directory}")


def hosts_of(said: list[str]) -> tuple[str, ...]:
    """Under which names and addresses a broker is known; on its own machine always."""
    node = platform.node()
    first = said or ([node] if _HOST.fullmatch(node) else [])
    return tuple(dict.fromkeys((*first, "localhost", LOOPBACK, "::1")))


def renew(
    directory: Directory,
    name: Annotated[
        str | None,
        typer.Argument(help="A worker, control or site; the broker's own when left out."),
    ] = None,
    output: CredentialsFile = None,
    certificate: CertificateFile = None,
    key: KeyFile = None,
    ca: AuthorityFile = None,
    authority: Annotated[
        bool,
        typer.Option(
            "--authority",
            help="Have another authority vouch for the broker and for components from now on; the "
            "former counts besides, until it ends or --end-former.",
        ),
    ] = False,
    end_former: Annotated[
        bool,
        typer.Option(
            "--end-former",
            help="Have nothing count any more that a former authority vouched for. Whoever has not "
            "connected since `renew --authority` needs new credentials then.",
        ),
    ] = False,
) -> None:
    """Replace a certificate before it ends; a broker that runs takes its own new one at once.

    A component's old certificate stays good until it ends; `add --new-password` has it end in a
    day, and at once with --now.
    """
    files = BrokerDirectory(directory)
    configured(files)
    given = given_certificate(certificate, key, ca)
    if authority or end_former:
        if authority == end_former or name is not None or output is not None or given is not None:
            raise InvalidRequest("--authority and --end-former each go with nothing else")
        if authority:
            files.renew_authority()
        else:
            files.end_former_authorities()
        typer.echo(f"the authority is good until {files.certificates.authority_ends:%Y-%m-%d}")
        return
    if name is None:
        if output is not None:
            raise InvalidRequest("-o FILE is for the certificate of somebody; name them")
        files.renew(given)
        typer.echo(f"good until {files.certificates.ends:%Y-%m-%d}")
        return
    if given is not None:
        raise InvalidRequest(f"{name!r} gets a certificate of this broker's own authority")
    issued = files.issue(name)
    hand_over(files.address_of(files.principals[name], issued), output)
    say(
        f"good until {issued.expires:%Y-%m-%d}; put it in place of the old one: {name} takes it "
        "when it connects again"
    )


def hand_over(address: BrokerAddress, output: Path | None) -> None:
    """Write a credentials file, or print what would stand in it."""
    credentials = address.credentials()
    if output is None:
        typer.echo(credentials.model_dump_json(indent=2, exclude_none=True))
    else:
        credentials.write(output)
        say(f"written to {output}; it is a secret")


def given_certificate(
    certificate: Path | None, key: Path | None, ca: Path | None
) -> GivenCertificate | None:
    """What the three options name.

    Raises:
        InvalidRequest: only some are given, or a file can't be read.
    """
    if certificate is None and key is None and ca is None:
        return None
    if certificate is None or key is None:
        raise InvalidRequest("--certificate and --key belong together, and --ca to both")
    return GivenCertificate(_read(certificate), _read(key), None if ca is None else _read(ca))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="strict")
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path} can't be read as PEM ({error})") from None


def warnings_of(files: BrokerDirectory, now: datetime | None = None) -> list[str]:
    """What to say of certificates and accounts that end soon, each with its remedy."""
    settings = files.settings
    moment = now or datetime.now(UTC)
    said = _accounts_that_end(files.principals.values(), moment)
    if settings is None or settings.tls is None:
        return said
    authority_ends = files.certificates.authority_ends
    if authority_ends < moment + COMPONENT_LIFE:
        said.append(
            f"the farm's authority {_ends(authority_ends, moment)}, and what it vouches for; "
            "`icebus-broker renew --authority` has another one take its place"
        )
    ends = files.certificates.ends
    if ends < moment + SOON:
        said.append(
            f"the broker's certificate {_ends(ends, moment)}; `icebus-broker renew` replaces it"
        )
    for name, each in sorted(files.certificates.ends_by_name().items()):
        if each < moment + SOON:
            said.append(
                f"the certificate of {name} {_ends(each, moment)}; `icebus-broker renew {name} "
                f"-o {name}.json` makes a new one"
            )
    return said


def _accounts_that_end(principals: Iterable[Principal], now: datetime) -> list[str]:
    said = []
    for each in sorted(principals, key=lambda each: each.id):
        if each.expires is not None and now < each.expires < now + ACCOUNT_SOON:
            said.append(
                f"the account of {each.id} ends on {each.expires:%Y-%m-%d %H:%M} UTC; "
                f"`icebus-broker expires {each.id} 30d` has it last longer"
            )
        invited = [each.invited_until, *(other.until for other in each.others if other.invited)]
        said += [
            f"nobody has used the line for {each.id}, which ends on {until:%Y-%m-%d %H:%M} UTC; "
            f"`icebus-broker add {each.id} --role {each.role} --new-password` makes another"
            for until in invited
            if until is not None and now < until < now + INVITATION_SOON
        ]
    return said


def _ends(when: datetime, now: datetime) -> str:
    return f"{'ended' if when <= now else 'ends'} on {when:%Y-%m-%d}"
