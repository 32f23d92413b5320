"""Storing a farm under a name, from what its keeper has handed over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from icebus.bus import BrokerAddress, Invitation
from icebus.client._profiles.account import check, choose_password, settle, without_password
from icebus.client._profiles.profile import Profile
from icebus.client._profiles.saved_profiles import SavedProfiles
from icebus.schemas.errors import Conflict, InvalidRequest, NotAuthorized
from icebus.schemas.ids import is_id, to_id
from icebus.schemas.operations.accounts import Account

LINE = "icebus login "


@dataclass(frozen=True)
class Login:
    """What has come of it.

    Attributes:
        name: under which the farm is stored.
        profile: as it is stored.
        role: who we are there; empty where the broker has no service that tells.
        is_default: whether it is the farm that is meant when none is named.
    """

    name: str
    profile: Profile
    role: str = ""
    is_default: bool = False


def clean(text: str) -> str:
    """What was handed over, of a line that may still have the command and the quotes around it."""
    return text.strip().removeprefix(LINE).strip().strip("'\"")


def log_in(where: str, name: str | None = None, saved: SavedProfiles | None = None) -> Login:
    """Try what was handed over, and store it.

    Args:
        where: an invitation, a broker's URL with a password, or the path of a credentials file.
        name: to store it under; after the host when left out.
        saved: where to.

    Raises:
        InvalidRequest: it is none of these, or the name can't be one.
        Conflict: another farm has the name.
        NotAuthorized: the broker refuses it: an invitation is used or over, a password is wrong.
        BrokerUnavailable: nothing answers there.
    """
    saved = saved or SavedProfiles()
    if name is not None and not is_id(name):
        raise InvalidRequest(f"{name!r} is no name: 1 to 64 letters, digits, _ and -")
    text = clean(where)
    if text.startswith("icebus://"):
        return _redeem(Invitation.parse(text), name, saved)
    address = BrokerAddress.parse(text)
    chosen = _name(address, name, saved)
    account = check(address)
    if account is not None and account.invited:
        raise InvalidRequest("this is a part of an invitation; `icebus login` takes the whole line")
    return _store(chosen, address, account, saved)


def _redeem(invitation: Invitation, name: str | None, saved: SavedProfiles) -> Login:
    address = invitation.address
    chosen = _name(address, name, saved)
    path = saved.path(chosen)
    if path.exists():
        before = Profile.read(path)
        if before.password == address.password and before.next_password is not None:
            # An earlier attempt was interrupted; its password may count already.
            try:
                if settle(path).password != address.password:
                    return _store(chosen, Profile.read(path).address, None, saved)
            except NotAuthorized:
                raise _refused(invitation) from None
    try:
        account = check(address)
    except NotAuthorized:
        raise _refused(invitation) from None
    if account is None:
        raise InvalidRequest(
            f"the broker at {address.host}:{address.port} has nobody who redeems invitations; it "
            "must be run by `icebus-broker run` or `icebus up`"
        )
    saved.prepare()
    kept = Profile.read(path) if path.exists() else None
    _profile(address, account).write(path)
    try:
        profile = choose_password(path)
    except BaseException:
        failed = Profile.read(path)
        if failed.next_password is None and failed.password == address.password:
            path.unlink()
            if kept is not None:
                kept.write(path)
        raise
    return _finish(chosen, profile, account.role, saved)


def _refused(invitation: Invitation) -> NotAuthorized:
    user = invitation.address.user
    remedy = f"ask whoever runs the farm for a new one: icebus-broker add {user} --new-password"
    if invitation.until <= datetime.now(UTC):
        return NotAuthorized(
            f"this line was good until {invitation.until:%Y-%m-%d %H:%M} UTC; {remedy}", user=user
        )
    return NotAuthorized(
        f"this line was used already, or a newer one has taken its place; if you did not use it, "
        f"somebody else did: say so, and {remedy}",
        user=user,
    )


def _name(address: BrokerAddress, name: str | None, saved: SavedProfiles) -> str:
    """What to store it under: the name given, else one that says which farm it is."""
    if name is not None:
        if not _free(name, address, saved):
            raise Conflict(
                f"another farm is stored as {name!r}; choose another --name, or "
                f"`icebus profile remove {name}`"
            )
        return name
    host = address.host
    first = host if host.replace(".", "").isdigit() or ":" in host else host.partition(".")[0]
    candidates = (first, f"{first}-{address.user}", f"{host}-{address.port}-{address.user}")
    names = list(map(to_id, candidates))
    return _first_free(names, address, saved)


def _first_free(names: Iterable[str], address: BrokerAddress, saved: SavedProfiles) -> str:
    for name in names:
        if _free(name, address, saved):
            return name
    raise Conflict("other farms are stored under the names of this one; choose with --name")


def _free(name: str, address: BrokerAddress, saved: SavedProfiles) -> bool:
    path = saved.path(name)
    if not path.exists():
        return True
    there = Profile.read(path).address
    same = ("host", "port", "user", "root")
    return all(getattr(there, each) == getattr(address, each) for each in same)


def _profile(address: BrokerAddress, account: Account | None) -> Profile:
    credentials = without_password(address).credentials().model_dump()
    if account is not None:
        credentials["expires"] = None if account.invited else account.expires
    return Profile(**credentials, password=address.password)


def _store(
    name: str, address: BrokerAddress, account: Account | None, saved: SavedProfiles
) -> Login:
    saved.prepare()
    profile = _profile(address, account)
    profile.write(saved.path(name))
    return _finish(name, profile, account.role if account else "", saved)


def _finish(name: str, profile: Profile, role: str, saved: SavedProfiles) -> Login:
    if saved.current is None and len(saved.names) == 1:
        saved.use(name)
    return Login(name, profile, role, is_default=saved.current == name)


def current_path(farm: str | Path | None, saved: SavedProfiles | None = None) -> Path:
    """The file of the stored farm that is meant.

    Raises:
        InvalidRequest: what is meant is not a stored one.
    """
    saved = saved or SavedProfiles()
    name = farm or saved.current or (saved.names[0] if len(saved.names) == 1 else None)
    if name is None or not is_id(str(name)):
        raise InvalidRequest("say whose password: icebus --farm NAME passwd; `icebus profile list`")
    saved.check(str(name))
    return saved.path(str(name))
