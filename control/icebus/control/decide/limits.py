"""What a user may have at once, and the file that says so for single users."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field, ValidationError

from icebus.schemas.errors import InvalidRequest
from icebus.schemas.ids import Id
from icebus.schemas.message import Args, invalid

RESERVATIONS = 100
"""Reservations of one user, those that wait included: what a program gone wild may make."""

PRIORITY = 10
"""The highest priority of a request: enough to say what is urgent, and waiting makes up for it."""


class Limit(Args):
    """The limits of one user."""

    devices: int | None = Field(default=None, ge=0, description="Held at once; null: all.")
    reservations: int = Field(default=RESERVATIONS, ge=0, description="Also those that wait.")
    priority: int = Field(default=PRIORITY, ge=-100, le=100, description="Highest of a request.")


@dataclass(frozen=True)
class Limits:
    """The limits of all users.

    Attributes:
        default: of those who have none of their own.
        users: of the others, by name.
    """

    default: Limit = field(default_factory=Limit)
    users: Mapping[str, Limit] = field(default_factory=dict)

    def of(self, user: str) -> Limit:
        """What that user may have."""
        return self.users.get(user, self.default)


class _File(Args):
    default: Limit = Field(default_factory=Limit)
    users: dict[Id, Limit] = Field(default_factory=dict)


def read(path: Path) -> Limits:
    """The limits in a TOML file. What a user's table does not say is as in ``[default]``.

    Raises:
        InvalidRequest: it can't be read, or is not what it should be; the message says where.
    """
    try:
        found = _File.model_validate(tomllib.loads(path.read_text()))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"can't read the limits in {path}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequest(f"the limits in {path} are no TOML: {error}") from None
    except ValidationError as error:
        raise invalid(error, f"the file of limits {path}") from None
    users = {
        name: found.default.model_copy(update=limit.model_dump(exclude_unset=True))
        for name, limit in found.users.items()
    }
    return Limits(found.default, users)
