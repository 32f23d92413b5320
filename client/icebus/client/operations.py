"""Control's operations as functions with types."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from icebus.client.link import Link, make
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError
from icebus.schemas.ids import new_id
from icebus.schemas.reservations import (
    AvailableArgs,
    AvailableReply,
    DevicesArgs,
    DevicesReply,
    EndArgs,
    ExtendArgs,
    ExtendReply,
    KnownDevice,
    ListArgs,
    Reservation,
    ReservationReply,
    ReservationsReply,
    ReserveArgs,
)

log = logging.getLogger(__name__)

TIMEOUT = 15.0
"""Seconds for control to answer: it does within milliseconds unless it is being restarted."""

UNDO_TIMEOUT = 2.0
"""Seconds to undo a reserve that was interrupted."""


def reserve(
    link: Link,
    *,
    kind: str | None,
    count: int | None,
    serials: Sequence[str] | None,
    args: Mapping[str, Any] | None,
    duration: float | None,
    client: str | None,
    timeout: float = TIMEOUT,
) -> Reservation:
    """Allocate devices; interrupted between question and answer, it leaves nothing reserved."""
    request = make(
        ReserveArgs,
        "reserve",
        kind=kind,
        count=1 if count is None and serials is None else count,
        serials=None if serials is None else list(serials),
        args=dict(args or {}),
        duration=duration,
        client=client,
    )
    name = new_id()

    def ask(seconds: float) -> Reservation:
        deadline = Deadline.after(seconds)
        return link.ask("reserve", request, ReservationReply, deadline, name).reservation

    try:
        return ask(min(timeout, TIMEOUT))
    except IcebusError:
        raise
    except BaseException:
        # The same id gets the same answer, which says what there is to undo.
        try:
            end(link, ask(UNDO_TIMEOUT).id, UNDO_TIMEOUT)
        except IcebusError as error:
            log.warning("could not undo an interrupted reserve: %s", error)
        raise


def extend(link: Link, reservation: str, duration: float, timeout: float = TIMEOUT) -> Reservation:
    """Move the end of a reservation by ``duration`` seconds."""
    args = make(ExtendArgs, "extend", reservation=reservation, duration=duration)
    return link.ask("extend", args, ExtendReply, Deadline.after(timeout)).reservation


def end(link: Link, reservation: str, timeout: float = TIMEOUT) -> Reservation:
    """End a reservation."""
    args = make(EndArgs, "end", reservation=reservation)
    return link.ask("end", args, ReservationReply, Deadline.after(timeout)).reservation


def list_reservations(link: Link, user: str | None, timeout: float = TIMEOUT) -> list[Reservation]:
    """Reservations that have not ended."""
    args = ListArgs(user=user)
    return link.ask("list", args, ReservationsReply, Deadline.after(timeout)).reservations


def list_devices(link: Link, timeout: float = TIMEOUT) -> list[KnownDevice]:
    """All devices that control knows."""
    return link.ask("devices", DevicesArgs(), DevicesReply, Deadline.after(timeout)).devices


def available(link: Link, kind: str | None, timeout: float = TIMEOUT) -> list[str]:
    """The devices that a reservation of that kind could have now."""
    args = make(AvailableArgs, "available", kind=kind)
    return link.ask("available", args, AvailableReply, Deadline.after(timeout)).serials
