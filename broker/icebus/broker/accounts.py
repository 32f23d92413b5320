"""Accounts of people: invitations, passwords of which only the hash is kept, and when they end."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from icebus.broker.access import Principal, new_password
from icebus.broker.mosquitto import hash_password
from icebus.schemas.topics import Role

PEOPLE = frozenset({Role.USER, Role.ADMIN})
"""Roles of those who get an invitation, and choose a password of their own by it. An observer may
ask nothing of anybody, the broker neither."""

INVITED_FOR = timedelta(days=3)
"""How long an invitation is good."""


def hashed(principal: Principal) -> Principal:
    """The same with only the hash of its password: enough to know it, and nothing to steal."""
    if not principal.password:
        return principal
    hash_ = hash_password(principal.password)
    return principal.model_copy(update={"password": "", "password_hash": hash_})


def invite(principal: Principal, until: datetime) -> tuple[Principal, str]:
    """Somebody who may do nothing but choose a password, until then; and the token to do it by."""
    token = new_password()
    invited = principal.model_copy(update={"password": token, "invited_until": until})
    return hashed(invited), token


def with_password(principal: Principal, password: str) -> Principal:
    """The same with another password; an invitation is accepted by that.

    Where the old one was kept in the clear, because programs of `icebus up` need it, so is this.
    """
    kept = bool(principal.password)
    chosen = principal.model_copy(
        update={"password": password, "password_hash": None, "invited_until": None}
    )
    return chosen if kept else hashed(chosen)


def standing(principals: Iterable[Principal], at: datetime | None = None) -> list[Principal]:
    """Those whose account or invitation has not ended."""
    moment = at or datetime.now(UTC)
    return [each for each in principals if each.ends is None or each.ends > moment]
