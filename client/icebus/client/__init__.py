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
    from icebus.client.administration import Admin
    from icebus.client.bitstreams import Bitstream
    from icebus.client.client import Client
    from icebus.client.events import ReceivedEvent
    from icebus.client.handlers import EventHandler, PulseCountHandler
    from icebus.client.outcomes import BatchFinished, EvaluationsFailed, Failure, Result
    from icebus.client.profile import Profile
    from icebus.client.progress import Progress
    from icebus.client.pulsecount import Boards, PulseCountClient
    from icebus.client.reservation import Reservation
    from icebus.client.survey import Survey
    from icebus.client.waiting import Waiting
    from icebus.schemas.errors import IcebusError

_HOMES = {
    "Admin": "icebus.client.administration",
    "BatchFinished": "icebus.client.outcomes",
    "Bitstream": "icebus.client.bitstreams",
    "Boards": "icebus.client.pulsecount",
    "Client": "icebus.client.client",
    "EvaluationsFailed": "icebus.client.outcomes",
    "EventHandler": "icebus.client.handlers",
    "Failure": "icebus.client.outcomes",
    "IcebusError": "icebus.schemas.errors",
    "Profile": "icebus.client.profile",
    "Progress": "icebus.client.progress",
    "PulseCountClient": "icebus.client.pulsecount",
    "PulseCountHandler": "icebus.client.handlers",
    "ReceivedEvent": "icebus.client.events",
    "Reservation": "icebus.client.reservation",
    "Result": "icebus.client.outcomes",
    "Survey": "icebus.client.survey",
    "Waiting": "icebus.client.waiting",
}

__all__ = [
    "Admin",
    "BatchFinished",
    "Bitstream",
    "Boards",
    "Client",
    "EvaluationsFailed",
    "EventHandler",
    "Failure",
    "IcebusError",
    "Profile",
    "Progress",
    "PulseCountClient",
    "PulseCountHandler",
    "ReceivedEvent",
    "Reservation",
    "Result",
    "Survey",
    "Waiting",
]


def __getattr__(name: str) -> Any:
    # Loaded when first used: `icebus --help` needs none of it.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
