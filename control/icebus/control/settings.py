"""What an operator may choose about control."""

from __future__ import annotations

import math
from dataclasses import dataclass

from icebus.schemas.errors import InvalidRequest

STALE_AFTER = 3
"""Heartbeats a worker may miss. One is lost easily (the echo is QoS 0), three are not."""


@dataclass(frozen=True)
class Settings:
    """How control behaves.

    Attributes:
        interval: seconds between heartbeats.
        grace: seconds an attached reservation outlives its client.
        max_duration: seconds from now that no reservation may end after.

    Raises:
        InvalidRequest: a value that makes no sense.
    """

    interval: float = 1.0
    grace: float = 10.0
    max_duration: float = 86_400.0

    def __post_init__(self) -> None:
        for name, least in (("interval", 0.05), ("grace", 0.0), ("max_duration", 1.0)):
            value = getattr(self, name)
            if not math.isfinite(value) or value < least:
                raise InvalidRequest(f"{name} is {value} s; give at least {least:g} s")

    @property
    def patience(self) -> float:
        """Seconds without an echo after which a worker counts as gone."""
        return STALE_AFTER * self.interval
