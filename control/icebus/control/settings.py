"""What an operator may choose about control."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from icebus.control.decide.limits import Limits
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.liveness import stale_after

LONGEST_HISTORY = 36_500
"""Days: a hundred years, which dates can still be reckoned with."""


@dataclass(frozen=True)
class Settings:
    """How control behaves.

    Attributes:
        interval: seconds between heartbeats.
        grace: seconds an attached reservation outlives its client.
        max_duration: seconds from now that no reservation may end after.
        history_days: days that the history reaches back.
        limits: what each user may have.

    Raises:
        InvalidRequest: a value that makes no sense.
    """

    interval: float = 1.0
    grace: float = 10.0
    max_duration: float = 86_400.0
    history_days: float = 400.0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for name, least in (("interval", 0.05), ("grace", 0.0), ("max_duration", 1.0)):
            value = getattr(self, name)
            if not math.isfinite(value) or value < least:
                raise InvalidRequest(f"{name} is {value} s; give at least {least:g} s")
        if not 1 <= self.history_days <= LONGEST_HISTORY:
            raise InvalidRequest(
                f"history_days is {self.history_days:g}; give 1 to {LONGEST_HISTORY} days"
            )

    @property
    def stale_after(self) -> float:
        """Seconds without an echo after which a worker counts as gone."""
        return stale_after(self.interval)
