"""Accounts of people: invitations, passwords of which only the hash is kept, and when they end."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from icebus.broker.access import OtherLogin, Principal, new_password
from icebus.broker.mosquitto import hash_password
from icebus.schemas.errors import Conflict, InvalidRequest
from icebus.schemas.ids import new_login, user_of
from icebus.schemas.topics import Role

PEOPLE = frozenset({Role.USER, Role.ADMIN})
"""Roles of those who get an invitation, and choose a password of their own by it. An observer may
ask nothing of anybody, the broker neither."""

INVITED_FOR = timedelta(days=3)
"""How long an invitation is good."""


OVERLAP = timedelta(hours=24)
"""How long a password stays good that was replaced, unless told otherwise: whoever runs programs
elsewhere has a working day to log in anew there."""

LONGEST_OVERLAP = timedelta(days=30)
"""The longest that may be chosen: a password that stays good for longer is not replaced."""

MOST_FORMER = 4
"""Former passwords of one user that are good at a time; the oldest ends when there are more."""


def hashed(principal: Principal) -> Principal:
    """The same with only the hash of its password: enough to know it, and nothing to steal."""
    if not principal.password:
        return principal
    hash_ = hash_password(principal.password)
    return principal.model_copy(update={"password": "", "password_hash": hash_})


def invite(principal: Principal, until: datetime) -> tuple[Principal, str]:
    """Somebody who may do nothing but choose a password, until then; and the token to do it by."""
    token = new_password()
    update = {"password": token, "invited_until": until, "login": None, "others": ()}
    return hashed(principal.model_copy(update=update)), token


def invite_again(principal: Principal, until: datetime) -> tuple[Principal, str, str]:
    """The same, who may choose another password until then, and has the present one meanwhile.

    Returns:
        Him, the token to do it by, and the name to log in under with that.
    """
    token, login = new_password(), new_login(principal.id)
    invitation = OtherLogin(
        login=login, password_hash=hash_password(token), until=until, invited=True
    )
    others = (*(each for each in principal.others if not each.invited), invitation)
    return principal.model_copy(update={"others": others}), token, login


def with_password(
    principal: Principal,
    password: str,
    login: str | None = None,
    overlap: timedelta = OVERLAP,
    now: datetime | None = None,
    former_hash: str | None = None,
) -> Principal:
    """The same with another password; an invitation is accepted by that.

    Where the old one was kept in the clear, because programs of `icebus up` need it, so is this.

    Args:
        principal: who.
        password: the new one.
        login: the name to log in under with it, which is new too; None for the present one, which
            ends the former password at once.
        overlap: how long the former stays good.
        now: when.
        former_hash: of the present password as Mosquitto has it, where that is known: with another
            salt it would take the password for another.

    Raises:
        Conflict: the name is in use.
        InvalidRequest: it is somebody else's.
    """
    if login is not None and user_of(login) != principal.id:
        raise InvalidRequest(f"{login!r} is no name for {principal.id} to log in under")
    if login is not None and login in {each.login for each in principal.others}:
        raise Conflict(f"{login!r} is the name of a former password; choose another")
    kept = bool(principal.password)
    moment = now or datetime.now(UTC)
    chosen = principal.model_copy(
        update={
            "password": password,
            "password_hash": None,
            "login": login or principal.login,
            "others": _former(principal, login, moment + overlap, moment, former_hash),
            "invited_until": None,
        }
    )
    return chosen if kept else hashed(chosen)


def _former(
    principal: Principal,
    login: str | None,
    until: datetime,
    now: datetime,
    former_hash: str | None,
) -> tuple[OtherLogin, ...]:
    """What is good besides a new password: others that were, and the one that it replaces."""
    if principal.invited_until is not None:
        return ()
    kept = [each for each in principal.others if not each.invited and each.until > now]
    known = former_hash or hashed(principal).password_hash
    if login not in (None, principal.logs_in_as) and until > now and known is not None:
        kept.append(OtherLogin(login=principal.logs_in_as, password_hash=known, until=until))
    return tuple(kept[-MOST_FORMER:])


def standing(principals: Iterable[Principal], at: datetime | None = None) -> list[Principal]:
    """Those whose account or invitation has not ended, without passwords and bars that have."""
    moment = at or datetime.now(UTC)
    return [
        each.model_copy(update={"others": good(each, moment), "barred_until": barred(each, moment)})
        for each in principals
        if each.ends is None or each.ends > moment
    ]


def barred(principal: Principal, at: datetime) -> datetime | None:
    """Until when somebody may publish nothing; None if that is over."""
    until = principal.barred_until
    return until if until is not None and until > at else None


def good(principal: Principal, at: datetime) -> tuple[OtherLogin, ...]:
    """The other names and passwords of somebody that have not ended."""
    return tuple(each for each in principal.others if each.until > at)
