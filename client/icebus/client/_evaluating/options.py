"""The options of a run of evaluations, their defaults, and why those are what they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from icebus.client._evaluating.reporting.progress import ProgressOption
from icebus.schemas.errors import InvalidRequest

STALL = 300.0
"""Seconds of silence of a board that owes outcomes after which they fail: the last resort, when no
will, no event and no state told of trouble. A full queue of the slowest firmware (64 × 5 s) still
says something every 5 s."""

NO_BOARD_TIMEOUT = 60.0
"""Seconds to wait for a board when none is left: ten times what a killed worker takes to be back,
and enough for a board to be flashed anew."""

BROKER_AWAY = 120.0
"""Seconds without the broker after which outstanding evaluations fail: twice what a machine takes
to start again. The broker keeps for 300 s what comes for a client that is away."""


WINDOW = "window"
"""Argument of a measurement that says how many seconds a board measures, in any kind with one."""


def check_timeout(timeout: float | None) -> None:
    """Refuse what is no number of seconds that a run may take.

    Raises:
        InvalidRequest: it is none.
    """
    if timeout is None:
        return
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not is_number or math.isnan(timeout) or timeout < 0:
        raise InvalidRequest(f"timeout={timeout!r}: give a number of seconds, or None for no end")


class EvaluateOptions(TypedDict, total=False):
    """The options of :meth:`MeasuringBoards.evaluate`, which says what they mean."""

    serials: Sequence[str] | None
    args: Mapping[str, Any]
    validate: bool
    repeats: int
    timeout: float | None
    stall: float
    progress: ProgressOption
    acknowledge: bool


class MapOptions(EvaluateOptions, total=False):
    """The options of :meth:`MeasuringBoards.map`, which says what they mean."""

    patience: float


@dataclass(frozen=True)
class Options:
    """The options of a run, with defaults for what was not given."""

    serials: Sequence[str] | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    validate: bool = True
    repeats: int = 1
    timeout: float | None = None
    stall: float = STALL
    patience: float = NO_BOARD_TIMEOUT
    broker_away: float = BROKER_AWAY
    progress: ProgressOption = False
    acknowledge: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.repeats, int) or self.repeats < 1:
            raise InvalidRequest(
                f"repeats={self.repeats!r}: each bitstream is measured 1 or more times"
            )
        check_timeout(self.timeout)
        if not isinstance(self.progress, bool) and not callable(self.progress):
            raise InvalidRequest(
                f"progress={self.progress!r}: give True for a bar, or a function that is called "
                "with a Progress"
            )

    @property
    def window(self) -> float:
        """Seconds that one measurement takes by itself, where it is asked for: none is silence."""
        window = self.args.get(WINDOW) if isinstance(self.args, Mapping) else None
        is_number = isinstance(window, (int, float)) and math.isfinite(window)
        return max(0.0, float(window)) if is_number and window is not None else 0.0

    @property
    def all_boards(self) -> bool:
        """Whether it is for all of the reservation, also for boards that take others' places."""
        return self.serials is None
