"""The way to the farm that a command is for."""

from __future__ import annotations

from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING

from icebus.client.cli.output.printing import print_message
from icebus.schemas.wording import show_duration

if TYPE_CHECKING:
    from icebus.client._client import Client
    from icebus.client._farm.survey import Survey
    from icebus.client._measuring_client import GenericMeasuringClient
    from icebus.client._profiles.endings import Ending
    from icebus.schemas.errors import IcebusError
    from icebus.schemas.topics import Topic

CONNECT_TIMEOUT = 4.0
"""Seconds for the broker to take us in, and then to tell how the farm is."""

CLOSE_TIMEOUT = 2.0

FARM: ContextVar[str | None] = ContextVar("farm", default=None)
"""The farm that `icebus --farm` names."""


def connect() -> Client:
    """A client of the farm in question, for reservations of any kind."""
    from icebus.client._client import Client

    client = Client(farm=FARM.get())
    client.on("away")(print_problem)
    client.on("ends")(print_ending)
    client.on("back")(print_back)
    return client


def connect_measuring(kind: str = "") -> GenericMeasuringClient:
    """A client of the farm in question, for kinds that measure."""
    from icebus.client._measuring_client import GenericMeasuringClient

    client = GenericMeasuringClient(kind, farm=FARM.get())
    client.on("away")(print_problem)
    client.on("ends")(print_ending)
    client.on("back")(print_back)
    return client


def print_problem(problem: IcebusError) -> None:
    """Say why the farm is away, while it is waited for."""
    print_message(f"icebus: {problem.message}")


def print_back(since: datetime) -> None:
    """Say that what was waited for goes on."""
    seconds = max(0.0, (datetime.now().astimezone() - since).total_seconds())
    print_message(f"icebus: the farm is back, after {show_duration(round(seconds))}")


def print_ending(ending: Ending) -> None:
    """Say what of the account ends soon; a day in advance or more, once a day."""
    from icebus.client.cli.once_a_day import first_today

    if first_today(f"{ending.what}-{ending.at:%Y%m%dT%H%M}"):
        print_message(f"icebus: {ending.message}")


def survey_farm(*topics: Topic) -> Survey:
    """How the farm is, as those topics tell it: nobody but the broker has to answer."""
    from icebus.bus import Bus, check_role
    from icebus.client._farm.survey import survey
    from icebus.client._profiles.profile import find_address
    from icebus.schemas.deadline import Deadline
    from icebus.schemas.topics import Role

    address = find_address(farm=FARM.get())
    bus = Bus(address, name=f"{address.user}-look", session_expiry=0)
    bus.connect(Deadline.after(CONNECT_TIMEOUT))
    try:
        check_role(bus, Role.OBSERVER, "icebus", Deadline.after(CONNECT_TIMEOUT))
        return survey(bus, Deadline.after(CONNECT_TIMEOUT), topics)
    finally:
        bus.close(Deadline.after(CLOSE_TIMEOUT))
