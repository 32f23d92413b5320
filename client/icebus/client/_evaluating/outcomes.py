"""What an evaluation comes to, and the error that tells of all that came to nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from icebus.schemas import errors
from icebus.schemas.measuring import Failure

LISTED = 3
"""Failures that the text of :class:`EvaluationsFailed` tells in full, each for another reason."""


class EvaluationsFailed(errors.EvaluationsFailed):
    """Some evaluations have no result; raised after the last outcome.

    Attributes:
        failures: those, at most the first 1,000.
    """

    failures: Sequence[Failure] = ()

    @classmethod
    def of(cls, failures: Sequence[Failure], count: int, outcomes: int) -> EvaluationsFailed:
        """The error for ``count`` failures among ``outcomes``, of which some are listed."""
        alike = Counter(failure.error.message for failure in failures)
        firsts = {failure.error.message: failure for failure in reversed(failures)}
        reasons = list(alike)[:LISTED]
        told = "; ".join(
            firsts[reason].told + (f" ({alike[reason]} times)" if alike[reason] > 1 else "")
            for reason in reasons
        )
        rest = count - sum(alike[reason] for reason in reasons)
        more = f"; and {rest} more" if rest else ""
        error = cls(
            f"{count} of {outcomes} evaluations failed: {told}{more}",
            failed=count,
            outcomes=outcomes,
        )
        error.failures = failures
        return error
