"""What a step of a firmware says, for tests."""

from __future__ import annotations

from icebus.rack.firmware import EOL, Evaluation, Step

ASKED = Evaluation(b"", 0)
"""Given with verdicts to firmware that has one evaluation at a time and does not look."""


def lines_of(step: Step) -> tuple[str, ...]:
    """The lines that are sent; each has its end."""
    text = step.output.decode("ascii")
    assert not text or text.endswith(EOL)
    return tuple(text.split(EOL)[:-1])


def evaluation_of(step: Step) -> Evaluation:
    """The one evaluation that is asked for."""
    [evaluation] = step.evaluations
    return evaluation
