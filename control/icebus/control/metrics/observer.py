"""What control tells whoever counts requests."""

from __future__ import annotations

from typing import Final


class Observer:
    """Takes note of nothing: what control has unless somebody counts."""

    def answered(self, operation: str, outcome: str, seconds: float) -> None:
        """A request was answered.

        Args:
            operation: as its topic says: that may be anything.
            outcome: ``ok``, or the code of the error.
            seconds: from its arrival.
        """

    def refused(self, operation: str, outcome: str) -> None:
        """A request was not taken: its sender asks too much."""


UNOBSERVED: Final = Observer()
