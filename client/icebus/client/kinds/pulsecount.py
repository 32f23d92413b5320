"""The client for kind ``pulsecount``: bitstreams in, pulse counts out."""

from __future__ import annotations

from icebus.client._async.boards import AsyncMeasuringBoards
from icebus.client._async.clients import AsyncMeasuringClient
from icebus.client._evaluating.boards import MeasuringBoards
from icebus.client._handlers import MeasuringHandler
from icebus.client._measuring_client import MeasuringClient
from icebus.schemas.kinds.pulsecount import KIND, PulseCountResult
from icebus.schemas.measuring import Failure

PulseCountOutcome = PulseCountResult | Failure

__all__ = [
    "AsyncBoards",
    "AsyncPulseCountClient",
    "AsyncPulseCountHandler",
    "Boards",
    "PulseCountClient",
    "PulseCountHandler",
    "PulseCountOutcome",
]


class Boards(MeasuringBoards[PulseCountResult]):
    """A reservation of kind ``pulsecount``."""


class PulseCountClient(MeasuringClient[PulseCountResult, Boards]):
    """Reserves boards and counts the pulses of circuits on them.

    >>> with PulseCountClient() as client:  # doctest: +SKIP
    ...     with client.reserve(2) as boards:
    ...         for result in boards.evaluate(["a.bin", "b.bin"]):
    ...             print(result.serial, result.bitstream, result.pulses)
    """

    kind = KIND
    result = PulseCountResult
    boards = Boards


class PulseCountHandler(MeasuringHandler[PulseCountResult]):
    """Hooks for reservations of kind ``pulsecount``."""


class AsyncBoards(AsyncMeasuringBoards[PulseCountResult]):
    """A reservation of kind ``pulsecount``, for asyncio."""


class AsyncPulseCountClient(AsyncMeasuringClient[PulseCountResult, AsyncBoards]):
    """Reserves boards and counts the pulses of circuits on them, for asyncio.

    >>> async with AsyncPulseCountClient() as client:  # doctest: +SKIP
    ...     async with client.reserve(2) as boards:
    ...         async for result in boards.evaluate(["a.bin", "b.bin"]):
    ...             print(result.serial, result.bitstream, result.pulses)
    """

    twin = PulseCountClient
    boards = AsyncBoards


AsyncPulseCountHandler = PulseCountHandler
"""The same: hooks of clients for asyncio may be coroutine functions."""
