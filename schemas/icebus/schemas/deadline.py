"""One monotonic deadline per operation, handed down the call chain instead of seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass

from icebus.schemas.errors import DeadlineExceeded, InvalidRequest


@dataclass(frozen=True)
class Deadline:
    """A moment on the monotonic clock by which an operation must have ended."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The deadline ``seconds`` from now.

        Raises:
            InvalidRequest: that is no number.
        """
        # One of NaN would never expire.
        if not isinstance(seconds, (int, float)) or seconds != seconds:
            raise InvalidRequest(f"a timeout must be a number of seconds, not {seconds!r}")
        return cls(time.monotonic() + seconds)

    @property
    def remaining(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.at - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() >= self.at

    def check(self, what: str) -> None:
        """Raise :class:`DeadlineExceeded` when no time is left for ``what``."""
        if self.expired:
            raise DeadlineExceeded(f"{what} took longer than allowed; raise the timeout to wait on")
