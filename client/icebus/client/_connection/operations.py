"""Control's operations as functions with types."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime

from pydantic import JsonValue

from icebus.bus import wait
from icebus.client._connection.connection import Link, make
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BrokerUnavailable, DeadlineExceeded, IcebusError, InternalError
from icebus.schemas.history import HistoryArgs, HistoryEntry, HistoryEvent, HistoryReply
from icebus.schemas.ids import CONTROL, new_id
from icebus.schemas.reservations import (
    AttachArgs,
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
    TransferArgs,
    WithdrawArgs,
)

log = logging.getLogger(__name__)

TIMEOUT = 15.0
"""Seconds for control to answer: it does within milliseconds unless it is being restarted."""

HISTORY_PAGE = 1000
"""Entries of the history in one answer, at most."""

UNANSWERED = 120.0
"""Seconds in which a reserve that was not answered is undone in the background: as long as a
broker is waited for. After that it ends with this client, or with its duration."""

INTERRUPTED = 2.0
"""Seconds to undo a reserve that was interrupted: people wait for it to end."""


def reserve(link: Link, request: ReserveArgs, deadline: Deadline) -> Reservation:
    """Allocate devices, or a place in the queue.

    Without an answer nothing stays reserved: if control did it all the same, it undoes it.
    """
    name = new_id()
    within = Deadline.after(min(TIMEOUT, deadline.remaining))
    try:
        return link.ask("reserve", request, ReservationReply, within, name).reservation
    except (DeadlineExceeded, BrokerUnavailable, InternalError):
        _withdraw(link, name, Deadline.after(UNANSWERED))
        raise
    except IcebusError:
        raise
    except BaseException:
        # Interrupted: there may be no later.
        soon = Deadline.after(INTERRUPTED)
        withdrawn = _withdraw(link, name, soon)
        with suppress(IcebusError):
            wait(withdrawn, soon, CONTROL)
        raise


def _withdraw(link: Link, name: str, deadline: Deadline) -> Future[JsonValue]:
    """Undo a request to reserve that has no answer, as soon as control answers again."""
    withdrawn = link.send("withdraw", WithdrawArgs(request=name), deadline)
    withdrawn.add_done_callback(_note_withdrawn)
    return withdrawn


def _note_withdrawn(withdrawn: Future[JsonValue]) -> None:
    error = withdrawn.exception()
    if error is not None:
        log.warning("could not undo a reserve that was not answered: %s", error)


def extend(link: Link, reservation: str, duration: float, timeout: float = TIMEOUT) -> Reservation:
    """Move the end of a reservation by ``duration`` seconds."""
    args = make(ExtendArgs, "extend", reservation=reservation, duration=duration)
    return link.ask("extend", args, ExtendReply, Deadline.after(timeout)).reservation


def end(
    link: Link,
    reservation: str,
    serials: Sequence[str] | None = None,
    *,
    timeout: float = TIMEOUT,
) -> Reservation:
    """End a reservation, or let go of some of its devices."""
    args = make(
        EndArgs,
        "end",
        reservation=reservation,
        serials=None if serials is None else list(serials),
    )
    return link.ask("end", args, ReservationReply, Deadline.after(timeout)).reservation


def transfer(link: Link, reservation: str, user: str, timeout: float = TIMEOUT) -> Reservation:
    """Give a reservation to another user."""
    args = make(TransferArgs, "transfer", reservation=reservation, user=user)
    return link.ask("transfer", args, ReservationReply, Deadline.after(timeout)).reservation


def attach(link: Link, reservation: str, timeout: float = TIMEOUT) -> Reservation:
    """Have a reservation depend on this client."""
    args = make(AttachArgs, "attach", reservation=reservation, client=link.client)
    return link.ask("attach", args, ReservationReply, Deadline.after(timeout)).reservation


def list_reservations(link: Link, user: str | None, timeout: float = TIMEOUT) -> list[Reservation]:
    """Reservations that have not ended."""
    args = ListArgs(user=user)
    return link.ask("list", args, ReservationsReply, Deadline.after(timeout)).reservations


def list_devices(link: Link, timeout: float = TIMEOUT) -> list[KnownDevice]:
    """All devices that control knows."""
    return link.ask("devices", DevicesArgs(), DevicesReply, Deadline.after(timeout)).devices


def available(
    link: Link, kind: str | None, selector: str | None = None, timeout: float = TIMEOUT
) -> list[str]:
    """The devices that a reservation of that kind could have now."""
    args = make(AvailableArgs, "available", kind=kind, selector=selector)
    return link.ask("available", args, AvailableReply, Deadline.after(timeout)).serials


def history(
    link: Link,
    *,
    user: str | None = None,
    reservation: str | None = None,
    serial: str | None = None,
    worker: str | None = None,
    events: Sequence[HistoryEvent] | None = None,
    since: datetime | None = None,
    limit: int,
    timeout: float = TIMEOUT,
) -> list[HistoryEntry]:
    """What happened, newest first: as many entries as wanted, in as many pages as it takes."""
    deadline = Deadline.after(timeout)
    entries: list[HistoryEntry] = []
    while len(entries) < limit:
        page = min(HISTORY_PAGE, limit - len(entries))
        args = make(
            HistoryArgs,
            "history",
            user=user,
            reservation=reservation,
            serial=serial,
            worker=worker,
            events=None if events is None else list(events),
            since=since,
            before=entries[-1].number if entries else None,
            limit=page,
        )
        found = link.ask("history", args, HistoryReply, deadline).entries
        entries += found
        if len(found) < page:
            break
    return entries
