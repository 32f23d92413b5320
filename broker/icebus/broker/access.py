"""Who may do what at the broker: the password file and the access list, made from the contract.

The access list names every principal literally. Mosquitto's ``pattern`` lines would be shorter but
hold for everybody, so that with ``pattern write worker/%u/#`` any user could pose as a worker.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from icebus.schemas.errors import InvalidRequest, ProgramMissing
from icebus.schemas.ids import RESERVED, Id
from icebus.schemas.topics import SELF, TOPICS, Grant, Role, Topic

_ROLES: dict[Role, frozenset[Role]] = {
    Role.CONTROL: frozenset({Role.CONTROL}),
    Role.WORKER: frozenset({Role.WORKER}),
    Role.OBSERVER: frozenset({Role.OBSERVER}),
    Role.USER: frozenset({Role.USER, Role.OBSERVER}),
    Role.ADMIN: frozenset({Role.ADMIN, Role.USER, Role.OBSERVER}),
}
"""What each role is allowed to act as."""

INSTALL_MOSQUITTO = (
    "install Mosquitto: `sudo apt-get install mosquitto` (Debian, Ubuntu), "
    "`brew install mosquitto` (macOS)"
)


HASH_ITERATIONS = 101
"""Mosquitto's own number. Its one thread hashes at every connect and, for everybody, at every
change of the list; our passwords are random, so that more would protect nothing."""


def new_password() -> str:
    """A password with 192 random bits."""
    return secrets.token_urlsafe(24)


class Principal(BaseModel):
    """Somebody the broker knows. Ids are unique over all roles."""

    model_config = ConfigDict(frozen=True)

    id: Id
    role: Role
    password: str = Field(default_factory=new_password, repr=False, pattern=r"^[!-~]{1,256}$")
    speaks_for: tuple[Id, ...] = Field(
        default=(), description="Workers behind a bridge, whose words this principal carries."
    )

    @property
    def selves(self) -> tuple[str, ...]:
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


def check(principals: Sequence[Principal]) -> None:
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
        if principal.id in RESERVED:
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
        granted: dict[str, list[str]] = {"write": [], "read": []}
        for topic in TOPICS.values():
            for verb, grants in (("write", topic.writers), ("read", topic.readers)):
                filters = {
                    filter_of(topic, grants[role], name)
                    for role in _ROLES[principal.role]
                    if role in grants
                    for name in principal.selves
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


def write_private(path: Path, text: str) -> None:
    """Write a file only its owner can read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


def find_program(name: str) -> str:
    """The path of one of Mosquitto's programs; Debian keeps the broker out of users' PATH.

    Raises:
        ProgramMissing: it is not installed.
    """
    found = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        raise ProgramMissing(f"{name} is not installed; {INSTALL_MOSQUITTO}", program=name)
    return found


def write_password_file(path: Path, principals: Iterable[Principal]) -> None:
    """Write Mosquitto's ``password_file``."""
    write_private(path, "".join(f"{p.id}:{hashed(p.password)}\n" for p in principals))


def hashed(password: str) -> str:
    """A password as Mosquitto 2 keeps it: PBKDF2 with SHA-512.

    ``mosquitto_passwd`` would do the same, from a file that has the password in the clear.
    """
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, HASH_ITERATIONS)
    return f"$7${HASH_ITERATIONS}${b64encode(salt).decode()}${b64encode(digest).decode()}"
