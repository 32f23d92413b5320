"""Who may do what at the broker: principals, their rights, and the access list that grants them.

The access list names every principal literally. Mosquitto's ``pattern`` lines would be shorter but
hold for everybody, so that with ``pattern write worker/%u/#`` any user could pose as a worker.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from icebus.schemas.errors import InvalidRequest
from icebus.schemas.ids import BROKER, RESERVED, Id, Login, user_of
from icebus.schemas.topics import BROKER_OPERATION, REPLY, SELF, TOPICS, Grant, Role, Topic

_ROLES: dict[Role, frozenset[Role]] = {
    Role.BROKER: frozenset({Role.BROKER}),
    Role.CONTROL: frozenset({Role.CONTROL}),
    Role.WORKER: frozenset({Role.WORKER}),
    Role.OBSERVER: frozenset({Role.OBSERVER}),
    Role.USER: frozenset({Role.USER, Role.OBSERVER}),
    Role.ADMIN: frozenset({Role.ADMIN, Role.USER, Role.OBSERVER}),
}
"""What each role is allowed to act as."""

CERTIFIED = frozenset({Role.CONTROL, Role.WORKER})
"""Roles that a broker with TLS knows by their certificates, and by nothing else."""


def new_password() -> str:
    """A password with 192 random bits."""
    return secrets.token_urlsafe(24)


class OtherLogin(BaseModel):
    """Another name and password under which somebody is taken in, for a while."""

    model_config = ConfigDict(frozen=True)

    login: Login
    password_hash: str = Field(repr=False)
    until: AwareDatetime
    invited: bool = Field(
        default=False, description="Whether it may do nothing but choose a password."
    )


class Principal(BaseModel):
    """Somebody the broker knows. Ids are unique over all roles."""

    model_config = ConfigDict(frozen=True)

    id: Id
    role: Role
    password: str = Field(
        default_factory=new_password,
        repr=False,
        pattern=r"^[!-~]{0,256}$",
        description="In the clear; empty where only its hash is kept.",
    )
    password_hash: str | None = Field(
        default=None, repr=False, description="As Mosquitto keeps it, in place of the password."
    )
    login: Login | None = Field(
        default=None, description="Name to log in under with the password; null for the id."
    )
    others: tuple[OtherLogin, ...] = Field(
        default=(),
        description="Names and passwords that are good besides: former ones, and an invitation.",
    )
    invited_until: AwareDatetime | None = Field(
        default=None, description="Until when it may choose a password, and do nothing else."
    )
    expires: AwareDatetime | None = Field(default=None, description="When the account ends.")
    barred_until: AwareDatetime | None = Field(
        default=None, description="Until when it may publish nothing, as it has flooded the broker."
    )
    speaks_for: tuple[Id, ...] = Field(
        default=(), description="Workers behind a bridge, whose words this principal carries."
    )
    groups: tuple[Id, ...] = Field(default=(), description="Control's file of limits has theirs.")
    incarnation: Id | None = Field(
        default=None,
        description="Given when it is added: tells it from those who were called so before.",
    )

    @model_validator(mode="after")
    def _known_by_something(self) -> Principal:
        if not self.password and self.password_hash is None:
            raise ValueError("the password is empty")
        if any(user_of(each) != self.id for each in self.logins):
            raise ValueError(f"a name to log in under is not {self.id}'s own")
        return self

    @property
    def logs_in_as(self) -> str:
        """The name to log in under with the password."""
        return self.login or self.id

    @property
    def logins(self) -> tuple[str, ...]:
        """All names to log in under."""
        return (self.logs_in_as, *(each.login for each in self.others))

    @property
    def ends(self) -> datetime | None:
        """When the broker takes it in no longer; None for never."""
        return min(filter(None, (self.invited_until, self.expires)), default=None)

    @property
    def own_ids(self) -> tuple[str, ...]:
        """The ids that are its own in topics."""
        return self.speaks_for or (self.id,)


@dataclass(frozen=True)
class Rights:
    """What a principal may do, as topic filters.

    Attributes:
        principal: who.
        login: the name that this is granted to; somebody may have several.
        write: where it may publish.
        read: what it may subscribe to and is given.
    """

    principal: Principal
    login: str
    write: tuple[str, ...]
    read: tuple[str, ...]


def check_principals(principals: Sequence[Principal]) -> None:
    """Refuse a set of principals that could pose as each other.

    Raises:
        InvalidRequest: an id stands twice, or is one of the reserved words.
    """
    seen: set[str] = set()
    for principal in principals:
        if principal.id in seen:
            raise InvalidRequest(
                f"two principals are called {principal.id!r}, and names are unique over all "
                "roles; rename one"
            )
        if (principal.role is Role.BROKER) != (principal.id == BROKER):
            raise InvalidRequest(
                f"{BROKER!r} is the name and the role of the broker's own service; choose others"
            )
        if principal.id in RESERVED - {BROKER}:
            raise InvalidRequest(f"{principal.id!r} is reserved; choose another name")
        seen.add(principal.id)
        if principal.speaks_for and principal.role is not Role.WORKER:
            raise InvalidRequest(
                f"{principal.id!r} speaks for workers, so its role must be {Role.WORKER}"
            )
    for principal in principals:
        for name in principal.speaks_for:
            if name in seen or name in RESERVED:
                raise InvalidRequest(
                    f"{principal.id!r} can't speak for {name!r}: that is a principal here itself"
                )
            seen.add(name)


def rights(principals: Iterable[Principal], root: str) -> Iterator[Rights]:
    """What the topic contract grants to each of these principals, by name to log in under."""
    for principal in principals:
        if principal.role is Role.BROKER:
            everything = f"{root}/#"
            yield Rights(principal, principal.id, (everything,), (everything, "$SYS/#"))
            continue
        if principal.invited_until is not None:
            yield _invited(principal, principal.logs_in_as, root)
        else:
            granted = _granted(principal, root)
            # A certificate says the id, and nothing else.
            names = {principal.logs_in_as, *([principal.id] if principal.role in CERTIFIED else [])}
            names |= {each.login for each in principal.others if not each.invited}
            for login in sorted(names):
                yield Rights(principal, login, *granted)
        for each in principal.others:
            if each.invited:
                yield _invited(principal, each.login, root)


def _as_barred(rights: Rights) -> Rights:
    """The same, without those to publish where somebody is barred."""
    return rights if rights.principal.barred_until is None else replace(rights, write=())


def _granted(principal: Principal, root: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    granted: dict[str, list[str]] = {"write": [], "read": []}
    for topic in TOPICS.values():
        for verb, grants in (("write", topic.writers), ("read", topic.readers)):
            filters = {
                filter_of(topic, grants[role], name)
                for role in _ROLES[principal.role]
                if role in grants
                for name in principal.own_ids
            }
            granted[verb] += [f"{root}/{each}" for each in sorted(filters)]
    return tuple(granted["write"]), tuple(granted["read"])


def _invited(principal: Principal, login: str, root: str) -> Rights:
    asks = BROKER_OPERATION.filter(user=principal.id)
    answers = REPLY.filter(user=principal.id, sender=BROKER)
    return Rights(principal, login, (f"{root}/{asks}",), (f"{root}/{answers}",))


def access_list(principals: Iterable[Principal], root: str) -> str:
    """The text of Mosquitto's ``acl_file`` for these principals."""
    stanzas = ["# Generated from the topic contract; changes are overwritten."]
    for each in map(_as_barred, rights(principals, root)):
        lines = [f"user {each.login}"]
        lines += [f"topic write {filter_}" for filter_ in each.write]
        lines += [f"topic read {filter_}" for filter_ in each.read]
        stanzas.append("\n".join(lines))
    return "\n\n".join(stanzas) + "\n"


def filter_of(topic: Topic, grant: Grant, name: str) -> str:
    """Where in a family of topics a grant allows whoever is called ``name`` there."""
    return topic.filter(
        **{level: name if value == SELF else value for level, value in grant.items()}
    )
