"""What one user may send to a component on the topics of one family. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from icebus.schemas.errors import IcebusError


@dataclass(frozen=True)
class Allowance:
    """How much of one user's messages is taken; more is refused, and its sender told.

    Attributes:
        per_second: messages a second, in the long run.
        at_once: messages beyond that after a pause.
        bytes_per_second: bytes a second, in the long run.
        bytes_at_once: bytes beyond that after a pause.
        waiting: messages that may wait for the component.
        waiting_bytes: bytes of them.
        refusal: why nothing is taken now; None where the rest says what is.
    """

    per_second: float = 100.0
    at_once: int = 500
    bytes_per_second: float = 4 << 20
    bytes_at_once: int = 16 << 20
    waiting: int = 1000
    waiting_bytes: int = 16 << 20
    refusal: IcebusError | None = None


class Bucket:
    """Fills at a rate up to what may be had at once; taking more than it holds is refused."""

    __slots__ = ("_at", "_left")

    def __init__(self) -> None:
        self._left = math.inf
        self._at = -math.inf

    def fill(self, rate: float, most: float, at: float) -> None:
        """Let what the time since the last filling brings flow in.

        Args:
            rate: a second.
            most: that it can hold.
            at: now, on the monotonic clock.
        """
        if at > self._at:
            gained = most if math.isinf(self._at) else rate * (at - self._at)
            self._left = min(most, self._left + gained)
            self._at = at

    def has(self, amount: float) -> bool:
        """Whether so much can be taken. One that is full gives any amount, once."""
        return self._left >= amount

    def take(self, amount: float) -> None:
        """Take so much out."""
        self._left -= amount

    def wait(self, amount: float, rate: float) -> float:
        """Seconds until so much could be taken."""
        missing = amount - self._left
        if missing <= 0:
            return 0.0
        return missing / rate if rate > 0 else math.inf
