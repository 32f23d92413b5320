"""``icebus whoami``."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from icebus.client.cli.connecting import FARM, connect
from icebus.client.cli.durations import show_until
from icebus.client.cli.options.shared_options import Output
from icebus.client.cli.output.printing import (
    Format,
    aligned,
    print_json,
    print_line,
    print_message,
    print_rows,
)

if TYPE_CHECKING:
    from icebus.bus import BrokerAddress
    from icebus.client._client import Client
    from icebus.schemas.operations.accounts import Account
    from icebus.schemas.operations.limits import LimitsReply

ANSWER_TIME = 4.0
"""Seconds for the broker, and then control, to say what they know of us."""

FIELDS = (
    *("farm", "profile", "user", "role", "groups", "host", "port", "tls", "root"),
    *("account_ends", "password_ends", "limits"),
)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(whoami)


def whoami(output: Output = Format.TABLE) -> None:
    """Tell which farm is meant and who you are there: role, groups, what you may have, and have.

    Examples:
      icebus whoami
      icebus --farm lab whoami
      icebus whoami -o json | jq .limits.devices_held
    """
    from icebus.client._profiles.account import own_account
    from icebus.client._profiles.profile import find_address
    from icebus.schemas.deadline import Deadline

    address = find_address(farm=FARM.get())
    account = own_account(address, Deadline.after(ANSWER_TIME))
    with connect() as client:
        limits = _limits(client)
        observes = client.observes
    row = as_row(address, account, limits, observes=observes)
    if output is Format.TABLE:
        print_line(aligned(_facts(row)))
    elif output in (Format.JSON, Format.JSONL):
        print_json(row, indent=2 if output is Format.JSON else None)
    else:
        print_rows([row], [], output, "user", FIELDS)


def _limits(client: Client) -> LimitsReply | None:
    """What control lets us have; None for observers, and while control is away."""
    from icebus.schemas.errors import DeadlineExceeded, IcebusError, NotAuthorized

    try:
        return client.limits(timeout=ANSWER_TIME)
    except NotAuthorized:
        return None
    except (DeadlineExceeded, IcebusError) as error:
        print_message(f"icebus: what you may have is not known: {error.message}")
        return None


def as_row(
    address: BrokerAddress, account: Account | None, limits: LimitsReply | None, *, observes: bool
) -> dict[str, Any]:
    """Who one is, for programs; null is what is not known, or never."""
    farm, profile = _named(address)
    ends = None if account is None else account.expires
    former = None if account is None else account.former.get(address.logs_in_as)
    role = account.role if account is not None else "observer" if observes else None
    return {
        "farm": farm,
        "profile": profile,
        "user": address.user,
        "role": role,
        "groups": [] if limits is None else list(limits.groups),
        "host": address.host,
        "port": address.port,
        "tls": address.tls,
        "root": address.root,
        "account_ends": None if ends is None else ends.isoformat(),
        "password_ends": None if former is None else former.isoformat(),
        "limits": None
        if limits is None
        else limits.model_dump(mode="json", exclude={"user", "groups"}),
    }


def _facts(row: dict[str, Any]) -> list[list[str]]:
    """Who one is, for people."""
    groups = f", in {' '.join(row['groups'])}" if row["groups"] else ""
    tls = "TLS" if row["tls"] else "without TLS"
    facts = [
        ["farm", row["farm"]],
        [
            "user",
            f"{row['user']} ({row['role'] or 'the broker does not say in which role'}{groups})",
        ],
        ["broker", f"{row['host']}:{row['port']}, {tls}, topics below {row['root']}"],
        ["account ends", _moment(row["account_ends"])],
    ]
    if row["password_ends"]:
        facts.append(["password ends", f"{_moment(row['password_ends'])}; log in anew"])
    if (limits := row["limits"]) is not None:
        facts += [
            ["devices", _used(limits["devices_held"], limits["devices"])],
            ["reservations", _used(limits["reservations_live"], limits["reservations"])],
            ["hours in 7 days", _used(round(limits["hours_used"], 1), limits["hours_a_week"])],
            ["priority", f"at most {limits['priority']}"],
        ]
        if limits["selector"]:
            facts.append(["boards", f"with {' or '.join(limits['selector'])} only"])
    return facts


def _used(used: float, most: float | None) -> str:
    return f"{used:g} of {'all' if most is None else format(most, 'g')}"


def _moment(at: str | None) -> str:
    if at is None:
        return "never"
    moment = datetime.fromisoformat(at)
    return f"{moment.astimezone():%Y-%m-%d %H:%M} (in {show_until(moment)})"


def _named(address: BrokerAddress) -> tuple[str, str | None]:
    """What the farm is called here, and the profile that names it."""
    from icebus.client._profiles.profile import FARM_VARIABLE, URL_VARIABLE, find_profile
    from icebus.client._profiles.saved_profiles import SavedProfiles

    where = f"{address.host}:{address.port}"
    if FARM.get() is None and os.environ.get(URL_VARIABLE):
        return f"${URL_VARIABLE}: {where}", None
    profile = find_profile(FARM.get() or os.environ.get(FARM_VARIABLE) or None)
    path = profile.path
    if path is not None and path.parent == SavedProfiles().folder:
        return path.stem, str(path)
    return str(profile.farm or where), None if path is None else str(path)
