"""What measuring a bitstream more than once comes to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from icebus.schemas.errors import InvalidRequest
from icebus.schemas.measuring import Failure, Result


@dataclass(frozen=True)
class Summary:
    """A bitstream's measurements, on all boards or on one.

    Attributes:
        bitstream: its name.
        sha256: of its bytes.
        serial: the board; empty where all boards are summed up.
        values: what was measured, in the order in which it came.
        failures: evaluations without a result.
    """

    bitstream: str
    sha256: str
    serial: str
    values: tuple[float, ...]
    failures: int

    @property
    def n(self) -> int:
        """How many measurements there are."""
        return len(self.values)

    @property
    def median(self) -> float | None:
        """Their median; None of none."""
        return median(self.values) if self.values else None

    @property
    def spread(self) -> float | None:
        """The highest less the lowest; None of none."""
        return max(self.values) - min(self.values) if self.values else None


def summarise(
    outcomes: Iterable[Result | Failure], of: str, *, each_board: bool = False
) -> list[Summary]:
    """Sum up what was measured more than once, in the order of the first outcomes.

    >>> summaries = summarise(boards.map(bitstreams, repeats=3), "pulses")  # doctest: +SKIP

    Args:
        outcomes: results, and failures if you have them.
        of: the field of results that is summed up, such as ``pulses``.
        each_board: whether boards are told apart.

    Raises:
        InvalidRequest: results have no number of that name.
    """
    values: dict[tuple[str, str, str], list[float]] = {}
    failures: dict[tuple[str, str, str], int] = {}
    for outcome in outcomes:
        key = (outcome.bitstream, outcome.sha256, outcome.serial if each_board else "")
        known = values.setdefault(key, [])
        if isinstance(outcome, Failure):
            failures[key] = failures.get(key, 0) + 1
        else:
            known.append(_number(outcome, of))
    return [Summary(*key, tuple(known), failures.get(key, 0)) for key, known in values.items()]


def _number(result: Result, of: str) -> float:
    value = getattr(result, of, None)
    if isinstance(value, bool) or not isinstance(value, int | float):
        numbers = [
            name
            for name, each in result
            if isinstance(each, int | float) and not isinstance(each, bool)
        ]
        raise InvalidRequest(
            f"results of {type(result).__name__} have no number {of!r}; they have "
            f"{', '.join(numbers)}"
        )
    return value
