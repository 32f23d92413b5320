"""What a user may have at once. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import Field

from icebus.schemas.message import Args

RESERVATIONS = 100
"""Reservations of one user, those that wait included: what a program gone wild may make."""

REQUESTS_PER_SECOND = 50.0
"""Requests of one user: ten thousand times what a usual run asks, and a tenth of what control can
answer. Ten times as many may come at once."""

PRIORITY = 10
"""The highest priority of a request: enough to say what is urgent, and waiting makes up for it."""


class Limit(Args):
    """The limits of one user."""

    devices: int | None = Field(default=None, ge=0, description="Held at once; null: all.")
    reservations: int = Field(default=RESERVATIONS, ge=0, description="Also those that wait.")
    priority: int = Field(default=PRIORITY, ge=-100, le=100, description="Highest of a request.")
    requests_per_second: float = Field(
        default=REQUESTS_PER_SECOND,
        gt=0,
        le=100_000,
        description="In the long run; ten seconds' worth may come at once.",
    )


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
