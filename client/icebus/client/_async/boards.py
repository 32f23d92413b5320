"""Boards that measure bitstreams, in the hands of an async client."""

from __future__ import annotations

from typing import Generic, TypeVar

from icebus.client._async.calls import Calls
from icebus.client._async.methods import at_once, iterated
from icebus.client._async.reservation import AsyncReservation
from icebus.client._evaluating.boards import MeasuringBoards
from icebus.schemas.measuring import Result, Withdrawn

R = TypeVar("R", bound=Result)


class AsyncMeasuringBoards(AsyncReservation, Generic[R]):
    """A reservation of boards that measure bitstreams: :class:`MeasuringBoards`, for asyncio.

    >>> async for result in boards.evaluate(["a.bin", "b.bin"]):  # doctest: +SKIP
    ...     print(result.serial, result.bitstream, result.pulses)

    What bitstreams come from is read on a thread, where it may take its time.
    """

    def __init__(self, calls: Calls, reservation: MeasuringBoards[R]) -> None:
        super().__init__(calls, reservation)
        self._boards = reservation

    @property
    def withdrawn(self) -> Withdrawn | None:
        """What was given up when a run was last left before its end."""
        return self._boards.withdrawn

    evaluate = iterated(MeasuringBoards[R].evaluate)
    evaluate_outcomes = iterated(MeasuringBoards[R].evaluate_outcomes)
    outcomes = evaluate_outcomes
    map = iterated(MeasuringBoards[R].map)
    map_outcomes = iterated(MeasuringBoards[R].map_outcomes)
    collect = iterated(MeasuringBoards[R].collect)
    acknowledge = at_once(MeasuringBoards[R].acknowledge)
