"""Control's operations as functions with types."""

from __future__ import annotations

import logging
import threading

from icebus.client.link import Link, make
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import DeviceUnavailable, IcebusError, NotEnoughDevices
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

PAUSE = 0.05
"""Seconds between attempts to get devices that will be ready soon."""

CHANCES = 3
"""Attempts to get devices of which all say that they are ready: what they say may be older than
what control knows, and the other way round."""

_SOON = frozenset(
    {
        DeviceState.FLASHING,
        DeviceState.TESTING,
        DeviceState.READY,
        DeviceState.PREPARING,
        DeviceState.SERVING,
        DeviceState.RELEASING,
    }
)
"""States of a device that nobody holds from which it becomes ready by itself."""

UNDO_TIMEOUT = 2.0
"""Seconds to undo a reserve that was interrupted."""


def reserve(link: Link, request: ReserveArgs, patience: float, deadline: Deadline) -> Reservation:
    """Allocate devices, patient with those that are only just being let go or made ready."""
    until = Deadline.after(min(patience, deadline.remaining))
    chances = CHANCES
    while True:
        try:
            return _reserve_once(link, request, deadline)
        except (NotEnoughDevices, DeviceUnavailable):
            states = _promising(link, request, deadline)
            chances = CHANCES if states - {DeviceState.READY} else chances - 1
            if until.expired or not states or not chances:
                raise
        threading.Event().wait(min(PAUSE, until.remaining))


def _reserve_once(link: Link, request: ReserveArgs, deadline: Deadline) -> Reservation:
    name = new_id()

    def ask(within: Deadline) -> Reservation:
        return link.ask("reserve", request, ReservationReply, within, name).reservation

    try:
        return ask(Deadline.after(min(TIMEOUT, deadline.remaining)))
    except IcebusError:
        raise
    except BaseException:
        # Interrupted between question and answer, it leaves nothing reserved: the same id gets
        # the same answer, which says what there is to undo.
        try:
            end(link, ask(Deadline.after(UNDO_TIMEOUT)).id, UNDO_TIMEOUT)
        except IcebusError as error:
            log.warning("could not undo an interrupted reserve: %s", error)
        raise


def _promising(link: Link, request: ReserveArgs, deadline: Deadline) -> set[DeviceState]:
    """The states of the devices that may soon be had, if they are as many as are wanted."""
    free = {
        each.report.serial: each.report.state
        for each in list_devices(link, min(TIMEOUT, deadline.remaining))
        if each.fresh and each.reservation is None and each.report.state in _SOON
    }
    if request.serials is not None:
        wanted = [free.get(serial) for serial in request.serials]
        return set() if None in wanted else {state for state in wanted if state is not None}
    return set(free.values()) if len(free) >= (request.count or 0) else set()


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
