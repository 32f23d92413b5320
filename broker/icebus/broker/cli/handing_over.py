"""What `icebus-broker add` hands to whom it lets in."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import typer

from icebus.broker.access import CERTIFIED, Principal, new_password
from icebus.broker.accounts import (
    INVITED_FOR,
    PEOPLE,
    hashed,
    invite,
    invite_again,
    with_password,
)
from icebus.broker.cli.command_options import configured, say
from icebus.broker.cli.setup_commands import hand_over
from icebus.broker.directory import BrokerDirectory
from icebus.bus import BrokerAddress, Invitation
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.ids import new_login

ANYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104

_SPAN = re.compile(r"([1-9][0-9]{0,4})([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Wanted:
    """How somebody is to be let in.

    Attributes:
        output: file to write credentials to, with a password that is good at once.
        valid: how long an invitation is good.
        expires: when the account ends.
        keep_password: whether the password is kept in the clear too.
        now: whether all that they had ends at once.
    """

    output: Path | None = None
    valid: timedelta = INVITED_FOR
    expires: datetime | None = None
    keep_password: bool = False
    now: bool = False


def let_in(files: BrokerDirectory, principal: Principal, wanted: Wanted) -> None:
    """Make somebody known, and print or write what they connect with.

    People get an invitation, one line. Programs, screens and sites, and people where a file is
    wanted, get what is good at once.

    Raises:
        InvalidRequest: it has a certificate, which ends by itself, and not when an account does.
    """
    settings = configured(files)
    certified = settings.tls is not None and principal.role in CERTIFIED
    if wanted.expires is not None and certified:
        raise InvalidRequest(
            f"{principal.id!r} has a certificate, which ends in its time; `icebus-broker remove` "
            "shuts it out before"
        )
    password = new_password()
    update = {"password": password, "password_hash": None, "expires": wanted.expires}
    principal = principal.model_copy(update=update)
    before = None if wanted.now else files.principals.get(principal.id)
    if before is not None and certified:
        _certify_anew(files, principal, wanted)
        return
    if before is not None and before.invited_until is not None:
        before = None  # an invitation that nobody has used is replaced
    if principal.role in PEOPLE and wanted.output is None and not wanted.keep_password:
        _invite(files, principal, before, wanted)
        return
    if before is None:
        files.add_principals([principal if wanted.keep_password else hashed(principal)])
    else:
        principal = _beside(files, principal, wanted)
    address = _address(files, principal)
    if wanted.output is not None or address.ca is not None or address.certificate is not None:
        hand_over(address, wanted.output)
    else:
        typer.echo(address.url())
    if before is not None:
        _say_former(principal.id, files.overlap)


def _certify_anew(files: BrokerDirectory, principal: Principal, wanted: Wanted) -> None:
    """Give a component another certificate, beside the one that its machine still has."""
    files.add_principals([hashed(principal)])
    overlap = files.overlap
    issued = files.issue(principal.id, void_others=True, overlap=overlap)
    hand_over(files.address_of(principal, issued), wanted.output)
    _say_former(principal.id, overlap, "certificate")


def _invite(
    files: BrokerDirectory, principal: Principal, before: Principal | None, wanted: Wanted
) -> None:
    until = datetime.now(UTC) + wanted.valid
    if before is None:
        invited, token = invite(principal, until)
        files.add_principals([invited])
        address = _address(files, principal.model_copy(update={"password": token, "login": None}))
    else:
        token = login = ""

        def change(known: Principal) -> Principal:
            nonlocal token, login
            again, token, login = invite_again(_given(known, principal), until)
            return again

        files.change(principal.id, change)
        address = replace(_address(files, principal), password=token, login=login)
    typer.echo(Invitation(address, until).url())
    say(
        f"give this line to {principal.id} and nobody else, to be pasted where `icebus login` asks "
        f"for it: it is good once, until {until:%Y-%m-%d %H:%M} UTC"
    )
    if before is not None:
        say(
            f"the present password of {principal.id} stays good until the line is used"
            f"{f', and for {_hours(files.overlap)} then' if files.overlap else ''}; --now ends it "
            "at once"
        )


def _beside(files: BrokerDirectory, principal: Principal, wanted: Wanted) -> Principal:
    """Give somebody another password, beside the present one; who they are then, with it."""
    login, overlap = new_login(principal.id), files.overlap

    def change(known: Principal) -> Principal:
        if wanted.keep_password or not known.password:
            known = hashed(known)
        changed = with_password(_given(known, principal), principal.password, login, overlap)
        return changed.model_copy(
            update={"password": principal.password, "password_hash": None}
            if wanted.keep_password
            else {}
        )

    changed = files.change(principal.id, change)
    return changed.model_copy(update={"password": principal.password, "password_hash": None})


def _given(known: Principal, principal: Principal) -> Principal:
    """What is known, with what the command has said."""
    update: dict[str, object] = {"expires": principal.expires, "speaks_for": principal.speaks_for}
    if "groups" in principal.model_fields_set:
        update["groups"] = principal.groups
    return known.model_copy(update=update)


def _say_former(name: str, overlap: timedelta, what: str = "password") -> None:
    if overlap:
        say(f"the former {what} of {name} stays good for {_hours(overlap)}; --now ends it")
    else:
        say(f"the former {what} of {name} has ended")


def _hours(span: timedelta) -> str:
    return f"{span.total_seconds() / 3600:g} h"


def _address(files: BrokerDirectory, principal: Principal) -> BrokerAddress:
    settings = configured(files)
    if settings.tls is None:
        host = platform.node() if settings.host in ANYWHERE else settings.host
        password = principal.password
        login = principal.login or ""
        return BrokerAddress(
            host, settings.port, principal.id, password, settings.root, login=login
        )
    if principal.role in CERTIFIED:
        return files.address_of(principal, files.issue(principal.id, void_others=True))
    return files.address_of(principal)


def parse_span(text: str) -> timedelta:
    """How long, from people: ``12h``, ``30d`` or ``4w``.

    Raises:
        InvalidRequest: it is something else.
    """
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise InvalidRequest(f"{text!r} is no span of time: write 12h, 30d or 4w")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def parse_end(text: str, now: datetime | None = None) -> datetime:
    """When, from people: a span from now on, or a date, at whose beginning in UTC it ends.

    Raises:
        InvalidRequest: it is neither, or past.
    """
    moment = now or datetime.now(UTC)
    try:
        end = datetime.fromisoformat(text.strip())
    except ValueError:
        return moment + parse_span(text)
    if end.tzinfo is None:
        end = end.replace(tzinfo=UTC)
    if end <= moment:
        raise InvalidRequest(f"{text} is past; `icebus-broker remove` shuts somebody out at once")
    return end
