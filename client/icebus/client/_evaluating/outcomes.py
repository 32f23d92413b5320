"""What an evaluation comes to, and the error that tells of all that came to nothing."""

from __future__ import annotations

from collections.abc import Sequence

from icebus.schemas import errors
from icebus.schemas.measuring import Failure

LISTED = 3
"""Failures that the text of :class:`EvaluationsFailed` tells in full."""


class EvaluationsFailed(errors.EvaluationsFailed):
    """Some evaluations have no result; raised after the last outcome.

    Attributes:
        failures: those, at most the first 1,000.
    """

    failures: Sequence[Failure] = ()

    @classmethod
    def of(cls, failures: Sequence[Failure], count: int, outcomes: int) -> EvaluationsFailed:
        """The error for ``count`` failures among ``outcomes``, of which some are listed."""
        told = "; ".join(failure.told for failure in failures[:LISTED])
        more = f"; and {count - LISTED} more" if count > LISTED else ""
        error = cls(
            f"{count} of {outcomes} evaluations failed: {told}{more}",
            failed=count,
            outcomes=outcomes,
        )
        error.failures = failures
        return error
