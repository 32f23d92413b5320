"""The way to the farm that a command is for."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from icebus.client._client import Client
    from icebus.client._measuring_client import GenericMeasuringClient
    from icebus.client._survey import Survey
    from icebus.schemas.topics import Topic

CONNECT_TIMEOUT = 10.0
"""Seconds for the broker to take us in, and to tell how the farm is."""

CLOSE_TIMEOUT = 2.0

PROFILE: ContextVar[str | None] = ContextVar("profile", default=None)
"""The profile that `icebus --profile` names."""


def connect() -> Client:
    """A client of the farm in question, for reservations of any kind."""
    from icebus.client._client import Client

    return Client(profile=PROFILE.get())


def connect_measuring(kind: str = "") -> GenericMeasuringClient:
    """A client of the farm in question, for kinds that measure."""
    from icebus.client._measuring_client import GenericMeasuringClient

    return GenericMeasuringClient(kind, profile=PROFILE.get())


def survey_farm(*topics: Topic) -> Survey:
    """How the farm is, as those topics tell it: nobody but the broker has to answer."""
    from icebus.bus import Bus
    from icebus.client._profile import find_address
    from icebus.client._survey import survey
    from icebus.schemas.deadline import Deadline

    address = find_address(profile=PROFILE.get())
    bus = Bus(address, name=f"{address.user}-look", session_expiry=0)
    deadline = Deadline.after(CONNECT_TIMEOUT)
    bus.connect(deadline)
    try:
        return survey(bus, deadline, topics)
    finally:
        bus.close(Deadline.after(CLOSE_TIMEOUT))
