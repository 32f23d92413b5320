"""The client for kind ``variance``: bitstreams in, how much a voltage moves out."""

from __future__ import annotations

from icebus.client._async.boards import AsyncMeasuringBoards
from icebus.client._async.clients import AsyncMeasuringClient
from icebus.client._evaluating.boards import MeasuringBoards
from icebus.client._handlers import MeasuringHandler
from icebus.client._measuring_client import MeasuringClient
from icebus.schemas.kinds.variance import KIND, VarianceResult
from icebus.schemas.measuring import Failure

VarianceOutcome = VarianceResult | Failure

__all__ = [
    "AsyncVarianceBoards",
    "AsyncVarianceClient",
    "AsyncVarianceHandler",
    "VarianceBoards",
    "VarianceClient",
    "VarianceHandler",
    "VarianceOutcome",
]


class VarianceBoards(MeasuringBoards[VarianceResult]):
    """A reservation of kind ``variance``."""


class VarianceClient(MeasuringClient[VarianceResult, VarianceBoards]):
    """Reserves boards and samples a voltage while circuits run on them.

    >>> with VarianceClient() as client:  # doctest: +SKIP
    ...     with client.reserve(2) as boards:
    ...         for result in boards.evaluate(["a.bin"], args={"waveform": True}):
    ...             print(result.serial, result.mean_difference, len(result.waveform))
    """

    kind = KIND
    result = VarianceResult
    boards = VarianceBoards


class VarianceHandler(MeasuringHandler[VarianceResult]):
    """Hooks for reservations of kind ``variance``."""


class AsyncVarianceBoards(AsyncMeasuringBoards[VarianceResult]):
    """A reservation of kind ``variance``, for asyncio."""


class AsyncVarianceClient(AsyncMeasuringClient[VarianceResult, AsyncVarianceBoards]):
    """Reserves boards and samples a voltage while circuits run on them, for asyncio."""

    twin = VarianceClient
    boards = AsyncVarianceBoards


AsyncVarianceHandler = VarianceHandler
"""The same: hooks of clients for asyncio may be coroutine functions."""
