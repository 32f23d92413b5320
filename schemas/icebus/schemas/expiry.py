"""How long the broker keeps a message that has not been delivered, or that it retains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from icebus.schemas.deadline import Deadline

_UNITS = ((3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True)
class Expiry:
    """When a message expires: never, after a fixed time, or depending on the moment it is sent.

    Attributes:
        fixed: seconds from its publishing.
        intervals: how many of the intervals at which its sender repeats it.
        at_deadline: whether it expires with the request that it is.
    """

    fixed: int | None = None
    intervals: int | None = None
    at_deadline: bool = False

    @classmethod
    def after(cls, *, hours: int = 0, minutes: int = 0) -> Self:
        """Expires that long after it was published."""
        return cls(fixed=3600 * hours + 60 * minutes)

    def seconds(
        self, interval: float | None = None, deadline: Deadline | None = None
    ) -> float | None:
        """Seconds until a message that is published now expires; None when it never does.

        Args:
            interval: seconds until its sender repeats it; for expiries in intervals only.
            deadline: of the request; for expiries at a deadline only.

        Raises:
            TypeError: what the expiry depends on is missing, or something else was given.
        """
        if (interval is None) is not (self.intervals is None):
            raise TypeError(f"an expiry of {self} {_takes('interval', interval)}")
        if (deadline is None) is self.at_deadline:
            raise TypeError(f"an expiry of {self} {_takes('deadline', deadline)}")
        if deadline is not None:
            return deadline.remaining
        if interval is not None and self.intervals is not None:
            return self.intervals * interval
        return self.fixed

    def __str__(self) -> str:
        """As the reference of the topics says it."""
        if self.at_deadline:
            return "the deadline"
        if self.intervals is not None:
            return f"{self.intervals} × interval"
        if self.fixed is None:
            return "none"
        size, unit = next(each for each in _UNITS if self.fixed % each[0] == 0)
        return f"{self.fixed // size} {unit}"


NEVER = Expiry()
AT_DEADLINE = Expiry(at_deadline=True)


def _takes(what: str, given: object) -> str:
    return f"takes no {what}" if given is not None else f"needs to know the {what}"
