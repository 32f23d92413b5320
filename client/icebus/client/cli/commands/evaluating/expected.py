"""What a run is to measure, and what of it has no outcome yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from icebus.schemas.programs.logs import printable
from icebus.schemas.wording import counted

if TYPE_CHECKING:
    from icebus.schemas.measuring import Outcome

MOST_NAMES = 10
"""Bitstreams that are named of those that were not measured."""


class Expected:
    """The evaluations of a run, of which it notes those that have an outcome.

    Args:
        names: of the bitstreams, in their order; one may stand there more than once.
        boards: that each is measured on; one empty serial for whichever is free.
        repeats: how often on each.
    """

    def __init__(self, names: Sequence[str], boards: Sequence[str], repeats: int) -> None:
        self.total = len(names) * len(boards) * repeats
        self._left = Counter(names)
        for name in self._left:
            self._left[name] *= len(boards) * repeats

    def note(self, outcome: Outcome) -> None:
        """An outcome has come."""
        if self._left[outcome.bitstream] > 0:
            self._left[outcome.bitstream] -= 1

    def missing_in_words(self) -> str:
        """What has no outcome, for people."""
        missing = {name: count for name, count in self._left.items() if count > 0}
        if not missing:
            return "all was measured"
        named = [
            printable(name) + (f" ({count} times)" if count > 1 else "")
            for name, count in list(missing.items())[:MOST_NAMES]
        ]
        more = len(missing) - len(named)
        others = f" and {counted(more, 'bitstream')} more" if more else ""
        count = sum(missing.values())
        were = "was" if count == 1 else "were"
        return (
            f"{count} of {counted(self.total, 'evaluation')} {were} not measured: "
            f"{', '.join(named)}{others}"
        )
