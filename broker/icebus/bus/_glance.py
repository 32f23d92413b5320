"""A short look at what the broker retains, with credentials of a program that may run already."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from pydantic import BaseModel

from icebus.bus._broker_address.address import BrokerAddress
from icebus.bus._bus import Bus
from icebus.bus._messages import Incoming
from icebus.bus._roles import check_role
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError, NotAuthorized, WrongRole
from icebus.schemas.message import decode
from icebus.schemas.topics import Role, Topic

CLOSING = 0.5
"""Seconds for saying goodbye to the broker."""


@dataclass
class Glance:
    """What was seen.

    Attributes:
        messages: the retained ones, by topic relative to the root.
        certificate_ends: the end of the broker's certificate, as seconds since 1970; None without
            TLS, or without a connection.
        problem: why there was nothing to be seen; None when the broker took us in.
    """

    messages: dict[str, BaseModel] = field(default_factory=dict)
    certificate_ends: float | None = None
    problem: IcebusError | None = None


def glance(
    address: BrokerAddress,
    name: str,
    topics: Sequence[tuple[Topic, dict[str, str]]],
    enough: Callable[[dict[str, BaseModel]], bool],
    deadline: Deadline,
    needs: tuple[Role, str] | None = None,
) -> Glance:
    """Look at what the broker retains on topics, until that is enough or time is up.

    No word is said, and no state of the program of that name is touched.

    Args:
        address: the broker, and who we are there.
        name: what the client id starts with.
        topics: families, and the levels to fix.
        enough: whether nothing more need be waited for; called with what was heard so far.
        deadline: for all of it.
        needs: of which role we have to be, and for which program; None for any.

    Raises:
        WrongRole: we are of another role, of which nothing is to be seen: neither good nor bad.
    """
    seen = Glance()
    complete = threading.Event()

    def hear(topic: Topic, incoming: Incoming) -> None:
        if incoming.payload and topic.model is not None:
            seen.messages[incoming.topic] = decode(topic.model, incoming.payload)
        if enough(dict(seen.messages)):
            complete.set()

    bus = Bus(address, name, session_expiry=0)
    for topic, ids in topics:
        bus.subscribe(topic, partial(hear, topic), **ids)
    try:
        bus.connect(deadline)
    except IcebusError as error:
        return Glance(problem=error)
    try:
        if needs is not None and (problem := _not_granted(bus, *needs, deadline)) is not None:
            return Glance(problem=problem)
        if topics:
            complete.wait(deadline.remaining)
        seen.certificate_ends = bus.certificate_ends
    finally:
        bus.close(Deadline.after(CLOSING))
    return seen


def _not_granted(bus: Bus, role: Role, program: str, deadline: Deadline) -> IcebusError | None:
    try:
        check_role(bus, role, program, deadline)
    except WrongRole:
        raise
    except NotAuthorized as error:
        # Observers are known by what they hear, and there may be nothing to hear yet.
        return None if role is Role.OBSERVER else error
    except IcebusError as error:
        return error
    return None
