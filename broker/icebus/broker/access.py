"""Who may do what at the broker: principals, their rights, and the access list that grants them.

The access list names every principal literally. Mosquitto's ``pattern`` lines would be shorter but
hold for everybody, so that with ``pattern write worker/%u/#`` any user could pose as a worker.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from icebus.schemas.errors import InvalidRequest
from icebus.schemas.ids import BROKER, RESERVED, Id
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
    invited_until: AwareDatetime | None = Field(
        default=None, description="Until when it may choose a password, and do nothing else."
    )
    expires: AwareDatetime | None = Field(default=None, description="When the account ends.")
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
        return self

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
        write: where it may publish.
        read: what it may subscribe to and is given.
    """

    principal: Principal
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
    """What the topic contract grants to each of these principals."""
    for principal in principals:
        if principal.role is Role.BROKER:
            everything = f"{root}/#"
            yield Rights(principal, (everything,), (everything, "$SYS/#"))
            continue
        if principal.invited_until is not None:
            me = principal.id
            asks = BROKER_OPERATION.filter(user=me)
            answers = REPLY.filter(user=me, sender=BROKER)
            yield Rights(principal, (f"{root}/{asks}",), (f"{root}/{answers}",))
            continue
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
        yield Rights(principal, tuple(granted["write"]), tuple(granted["read"]))


def access_list(principals: Iterable[Principal], root: str) -> str:
    """The text of Mosquitto's ``acl_file`` for these principals."""
    stanzas = ["# Generated from the topic contract; changes are overwritten."]
    for each in rights(principals, root):
        lines = [f"user {each.principal.id}"]
        lines += [f"topic write {filter_}" for filter_ in each.write]
        lines += [f"topic read {filter_}" for filter_ in each.read]
        stanzas.append("\n".join(lines))
    return "\n\n".join(stanzas) + "\n"


def filter_of(topic: Topic, grant: Grant, name: str) -> str:
    """Where in a family of topics a grant allows whoever is called ``name`` there."""
    return topic.filter(
        **{level: name if value == SELF else value for level, value in grant.items()}
    )
