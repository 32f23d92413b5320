"""Identifiers: what may stand in a topic level, and how new ones are made."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
"""One topic level, safe in file names and shells too: no separators, wildcards or dots."""

CONTROL = "control"
"""The sender name of every control, whichever of them answers; nobody else may be called so."""

BROKER = "broker"
"""The principal and the sender name of the broker's own service; nobody else may be called so."""

ALL_DEVICES = "all"
"""Stands where a serial would in events that concern a whole reservation."""

RESERVED = frozenset({CONTROL, BROKER, ALL_DEVICES})

LOGIN_PATTERN = r"^[A-Za-z0-9_-]{1,64}(\.[a-z0-9]{1,16})?$"
"""A name to log in under at the broker: somebody's own, or that with a dot and letters behind it.
Mosquitto knows one password for a name; so that a new one can count beside the former, it belongs
to a name of its own. In topics there are only ids, which have no dots."""

Id = Annotated[str, Field(pattern=ID_PATTERN)]
Serial = Annotated[str, Field(pattern=ID_PATTERN, description="USB serial number of a device.")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

Login = Annotated[str, Field(pattern=LOGIN_PATTERN)]

_LOGIN = re.compile(LOGIN_PATTERN)
_ID = re.compile(ID_PATTERN)
_NOT_ID = re.compile(r"[^A-Za-z0-9_-]+")


def new_id(prefix: str = "") -> str:
    """A fresh id with 64 random bits, which are enough never to meet again in one farm."""
    return prefix + secrets.token_hex(8)


def new_login(user: str) -> str:
    """A name for somebody to log in under that nobody else has."""
    return f"{user}.{secrets.token_hex(4)}"


def is_login(text: str) -> bool:
    """Whether ``text`` may be a name to log in under."""
    return _LOGIN.fullmatch(text) is not None


def user_of(login: str) -> str:
    """Whose name to log in under it is."""
    return login.partition(".")[0]


def is_id(text: str) -> bool:
    """Whether ``text`` may stand in a topic level."""
    return _ID.fullmatch(text) is not None


def is_serial(text: str) -> bool:
    """Whether ``text`` may name a device."""
    return is_id(text) and text != ALL_DEVICES


def to_id(text: str, default: str = "unnamed") -> str:
    """The nearest id to ``text``, for host and login names that may hold anything."""
    cleaned = _NOT_ID.sub("-", text).strip("-")[:64] or default
    return f"{cleaned[:62]}-1" if cleaned in RESERVED else cleaned


def meant(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """The ids of ``known`` that somebody means who does not mind upper and lower case.

    A name that is known, or that several differ from by case only, stays as it is, as does one that
    is not known at all.

    >>> meant(["e66164", "B1", "x"], ["E66164", "b1", "B1"])
    ['E66164', 'B1', 'x']
    """
    there = set(known)
    folded: dict[str, list[str]] = {}
    for each in there:
        folded.setdefault(each.casefold(), []).append(each)

    def find(name: str) -> str:
        alike = folded.get(name.casefold(), []) if isinstance(name, str) else []
        return alike[0] if name not in there and len(alike) == 1 else name

    return list(dict.fromkeys(find(name) for name in names))
