"""The client of icebus: reserve boards of a farm, evaluate bitstreams, hear what happens.

>>> from icebus.client import PulseCountClient
>>> with PulseCountClient() as client, client.reserve(2) as boards:  # doctest: +SKIP
...     for result in boards.evaluate(["a.bin", "b.bin"]):
...         print(result.serial, result.bitstream, result.pulses)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from icebus.client._admin import Admin
    from icebus.client._async.boards import AsyncMeasuringBoards
    from icebus.client._async.clients import (
        AsyncAdmin,
        AsyncClient,
        AsyncGenericMeasuringClient,
        AsyncMeasuringClient,
    )
    from icebus.client._async.handlers import AsyncEventHandler, AsyncMeasuringHandler
    from icebus.client._async.methods import awaited, iterated
    from icebus.client._async.reservation import AsyncReservation
    from icebus.client._async.stream import Stream
    from icebus.client._available_devices import DevicesAvailable
    from icebus.client._changes import Change
    from icebus.client._client import Client
    from icebus.client._connection.hook_runner import ReceivedEvent
    from icebus.client._evaluating.bitstreams import Bitstream
    from icebus.client._evaluating.boards import MeasuringBoards
    from icebus.client._evaluating.dataframe import to_dataframe
    from icebus.client._evaluating.outcomes import EvaluationsFailed
    from icebus.client._evaluating.reporting.progress import Progress
    from icebus.client._evaluating.summary import Summary, summarise
    from icebus.client._farm.survey import Survey
    from icebus.client._handlers import EventHandler, MeasuringHandler
    from icebus.client._logs.lines import LogLine
    from icebus.client._measuring_client import (
        GenericMeasuringClient,
        GenericResult,
        MeasuringClient,
    )
    from icebus.client._open_sessions import close_all
    from icebus.client._profiles.profile import Profile
    from icebus.client._reservation.queue_place import Waiting
    from icebus.client._reservation.reservation import Reservation
    from icebus.client.kinds.pulsecount import (
        AsyncBoards,
        AsyncPulseCountClient,
        AsyncPulseCountHandler,
        Boards,
        PulseCountClient,
        PulseCountHandler,
    )
    from icebus.client.kinds.variance import (
        AsyncVarianceBoards,
        AsyncVarianceClient,
        AsyncVarianceHandler,
        VarianceBoards,
        VarianceClient,
        VarianceHandler,
    )
    from icebus.schemas.errors import IcebusError
    from icebus.schemas.kinds.pulsecount import PulseCountResult
    from icebus.schemas.kinds.variance import VarianceResult
    from icebus.schemas.measuring import BatchFinished, Failure, Result

_HOMES = {
    "AsyncAdmin": "icebus.client._async.clients",
    "AsyncBoards": "icebus.client.kinds.pulsecount",
    "AsyncClient": "icebus.client._async.clients",
    "AsyncEventHandler": "icebus.client._async.handlers",
    "AsyncGenericMeasuringClient": "icebus.client._async.clients",
    "AsyncMeasuringBoards": "icebus.client._async.boards",
    "AsyncMeasuringClient": "icebus.client._async.clients",
    "AsyncMeasuringHandler": "icebus.client._async.handlers",
    "AsyncPulseCountClient": "icebus.client.kinds.pulsecount",
    "AsyncPulseCountHandler": "icebus.client.kinds.pulsecount",
    "AsyncReservation": "icebus.client._async.reservation",
    "AsyncVarianceBoards": "icebus.client.kinds.variance",
    "AsyncVarianceClient": "icebus.client.kinds.variance",
    "AsyncVarianceHandler": "icebus.client.kinds.variance",
    "Stream": "icebus.client._async.stream",
    "awaited": "icebus.client._async.methods",
    "iterated": "icebus.client._async.methods",
    "Admin": "icebus.client._admin",
    "BatchFinished": "icebus.schemas.measuring",
    "Bitstream": "icebus.client._evaluating.bitstreams",
    "Boards": "icebus.client.kinds.pulsecount",
    "Change": "icebus.client._changes",
    "Client": "icebus.client._client",
    "DevicesAvailable": "icebus.client._available_devices",
    "EvaluationsFailed": "icebus.client._evaluating.outcomes",
    "EventHandler": "icebus.client._handlers",
    "Failure": "icebus.schemas.measuring",
    "GenericMeasuringClient": "icebus.client._measuring_client",
    "GenericResult": "icebus.client._measuring_client",
    "IcebusError": "icebus.schemas.errors",
    "LogLine": "icebus.client._logs.lines",
    "MeasuringBoards": "icebus.client._evaluating.boards",
    "MeasuringClient": "icebus.client._measuring_client",
    "MeasuringHandler": "icebus.client._handlers",
    "Profile": "icebus.client._profiles.profile",
    "Progress": "icebus.client._evaluating.reporting.progress",
    "PulseCountClient": "icebus.client.kinds.pulsecount",
    "PulseCountHandler": "icebus.client.kinds.pulsecount",
    "PulseCountResult": "icebus.schemas.kinds.pulsecount",
    "ReceivedEvent": "icebus.client._connection.hook_runner",
    "Reservation": "icebus.client._reservation.reservation",
    "Result": "icebus.schemas.measuring",
    "Summary": "icebus.client._evaluating.summary",
    "Survey": "icebus.client._farm.survey",
    "VarianceBoards": "icebus.client.kinds.variance",
    "VarianceClient": "icebus.client.kinds.variance",
    "VarianceHandler": "icebus.client.kinds.variance",
    "VarianceResult": "icebus.schemas.kinds.variance",
    "Waiting": "icebus.client._reservation.queue_place",
    "close_all": "icebus.client._open_sessions",
    "summarise": "icebus.client._evaluating.summary",
    "to_dataframe": "icebus.client._evaluating.dataframe",
}

__all__ = [
    "Admin",
    "AsyncAdmin",
    "AsyncBoards",
    "AsyncClient",
    "AsyncEventHandler",
    "AsyncGenericMeasuringClient",
    "AsyncMeasuringBoards",
    "AsyncMeasuringClient",
    "AsyncMeasuringHandler",
    "AsyncPulseCountClient",
    "AsyncPulseCountHandler",
    "AsyncReservation",
    "AsyncVarianceBoards",
    "AsyncVarianceClient",
    "AsyncVarianceHandler",
    "BatchFinished",
    "Bitstream",
    "Boards",
    "Change",
    "Client",
    "DevicesAvailable",
    "EvaluationsFailed",
    "EventHandler",
    "Failure",
    "GenericMeasuringClient",
    "GenericResult",
    "IcebusError",
    "LogLine",
    "MeasuringBoards",
    "MeasuringClient",
    "MeasuringHandler",
    "Profile",
    "Progress",
    "PulseCountClient",
    "PulseCountHandler",
    "PulseCountResult",
    "ReceivedEvent",
    "Reservation",
    "Result",
    "Stream",
    "Summary",
    "Survey",
    "VarianceBoards",
    "VarianceClient",
    "VarianceHandler",
    "VarianceResult",
    "Waiting",
    "awaited",
    "close_all",
    "iterated",
    "summarise",
    "to_dataframe",
]


def __getattr__(name: str) -> Any:
    # Loaded when first used: `icebus --help` needs none of it.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    # What Tab shows in a notebook, before any of it is loaded.
    return sorted({*__all__, "__doc__", "__file__", "__name__", "__path__", "__spec__"})
