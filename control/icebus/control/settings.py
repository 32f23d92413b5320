"""What an operator may choose about control."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field, ValidationError

from icebus.control.decide.limits import Limit, Limits
from icebus.control.decide.ownership import RELEASE_AFTER
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.ids import Id
from icebus.schemas.message import Args, invalid

LONGEST_HISTORY = 36_500
"""Days: a hundred years, with which dates can still be calculated."""

SHORTEST_ENDED = 8.0
"""Days: a user's hours are those of a week, and belong to the reservations they were used in."""


@dataclass(frozen=True)
class Settings:
    """How control behaves.

    Attributes:
        interval: seconds between heartbeats.
        grace: seconds an attached reservation outlives its client.
        max_duration: seconds from now that no reservation may end after.
        history_days: days that the history reaches back.
        ended_days: days that is remembered why a reservation is over.
        release_after: seconds after which a worker that is away has let go of its boards: those
            that another worker has are followed there.
        limits: what each user may have.
        limits_file: where they stand, to be read anew when it changes; None if they can't change.

    Raises:
        InvalidRequest: a value that makes no sense.
    """

    interval: float = 1.0
    grace: float = 10.0
    max_duration: float = 86_400.0
    history_days: float = 400.0
    ended_days: float = 30.0
    release_after: float = RELEASE_AFTER
    limits: Limits = field(default_factory=Limits)
    limits_file: Path | None = None

    def __post_init__(self) -> None:
        least_of = {"interval": 0.05, "grace": 0.0, "max_duration": 1.0, "release_after": 1.0}
        for name, least in least_of.items():
            value = getattr(self, name)
            if not math.isfinite(value) or value < least:
                raise InvalidRequest(f"{name} is {value} s; give at least {least:g} s")
        for name, shortest in (("history_days", 1.0), ("ended_days", SHORTEST_ENDED)):
            days = getattr(self, name)
            if not shortest <= days <= LONGEST_HISTORY:
                raise InvalidRequest(
                    f"{name} is {days:g}; give {shortest:g} to {LONGEST_HISTORY} days"
                )


class _LimitsFile(Args):
    default: Limit = Field(default_factory=Limit)
    groups: dict[Id, Limit] = Field(default_factory=dict)
    users: dict[Id, Limit] = Field(default_factory=dict)


def read_limits(path: Path) -> Limits:
    """The limits in a TOML file.

    Raises:
        InvalidRequest: it can't be read, or is not what it should be; the message says where.
    """
    try:
        found = _LimitsFile.model_validate(tomllib.loads(path.read_text()))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"can't read the limits in {path}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequest(f"the limits in {path} are no TOML: {error}") from None
    except ValidationError as error:
        raise invalid(error, f"the file of limits {path}") from None
    return Limits(found.default, found.users, found.groups)
