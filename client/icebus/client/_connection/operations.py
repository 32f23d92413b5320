"""Control's operations as functions with types."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TypeVar

from pydantic import BaseModel

from icebus.bus import Answer, sleep
from icebus.client._connection.connection import Connection, serials_of, validated
from icebus.schemas.calls import Request
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import (
    BrokerUnavailable,
    DatabaseUnavailable,
    DeadlineExceeded,
    DeviceUnavailable,
    IcebusError,
    InternalError,
    InvalidRequest,
    NotAuthorized,
    NotEnoughDevices,
    WrongRole,
)
from icebus.schemas.ids import CONTROL, new_id
from icebus.schemas.operations.history import HistoryArgs, HistoryEntry, HistoryEvent, HistoryReply
from icebus.schemas.operations.limits import LimitsArgs, LimitsReply
from icebus.schemas.operations.offers import AcceptArgs, DeclineArgs, TransferArgs
from icebus.schemas.operations.reservations import (
    AttachArgs,
    AvailableArgs,
    AvailableReply,
    DevicesArgs,
    DevicesReply,
    EndArgs,
    ExtendArgs,
    ExtendReply,
    GrowArgs,
    KnownDevice,
    ListArgs,
    RebootHeldArgs,
    Reservation,
    ReservationReply,
    ReservationsReply,
    ReserveArgs,
    WithdrawArgs,
    WithdrawReply,
)
from icebus.schemas.topics import OPERATION, Role, Topic

log = logging.getLogger(__name__)

TIMEOUT = 15.0
"""Seconds for control to answer: it does within milliseconds unless it is being restarted."""

SOON_FREE = 15.0
"""Seconds to wait for boards that somebody has just let go: they are reset and tested."""

ASK_AGAIN = 0.5
"""Seconds between asking for boards that are soon free."""

HISTORY_PAGE = 1000
"""Entries of the history in one answer, at most."""

UNANSWERED = 120.0
"""Seconds in which a reserve that was not answered is undone in the background: as long as a
broker is waited for. After that it ends with this client, or with its duration."""

INTERRUPTED = 2.0
"""Seconds to undo a reserve that was interrupted: people wait for it to end."""


A = TypeVar("A", bound=BaseModel)


def send(
    connection: Connection,
    operation: str,
    args: BaseModel,
    model: type[A],
    deadline: Deadline,
    *,
    request: str | None = None,
    family: Topic = OPERATION,
) -> Answer[A]:
    """Ask control, and do not wait.

    Args:
        connection: to ask over.
        operation: its name.
        args: of the operation.
        model: of the answer.
        deadline: when to give up.
        request: its id, where it has to be known; else a new one.
        family: of topics that the operation belongs to.
    """
    topic = family(user=connection.user, operation=operation)
    body = args.model_dump(mode="json", exclude_none=True)
    return connection.send(
        topic, Request(id=request or new_id(), args=body), CONTROL, model, deadline
    )


def ask(
    connection: Connection,
    operation: str,
    args: BaseModel,
    model: type[A],
    timeout: float,
    *,
    family: Topic = OPERATION,
) -> A:
    """Ask control, and wait for its answer for ``timeout`` seconds.

    Raises:
        IcebusError: whatever control answered.
        WrongRole: observers may ask nothing.
        DeadlineExceeded: it did not answer.
        ClientClosed: the client is closed.
    """
    answer = send(connection, operation, args, model, Deadline.after(timeout), family=family)
    if family is not OPERATION:
        return answer.wait()
    with _observers_told(connection, operation):
        return answer.wait()


@contextmanager
def _observers_told(connection: Connection, operation: str) -> Iterator[None]:
    """Name the role that lacks: an access list refuses without a word.

    Raises:
        WrongRole: the broker takes us in, and what we ask control not: observers may ask nothing.
    """
    try:
        yield
    except NotAuthorized:
        if connection.refusal is not None:
            raise
        user = connection.user
        raise WrongRole(
            f"{user} is an observer here, who may only look; {operation} needs credentials of role "
            "user: icebus-broker add NAME --role user",
            user=user,
            role=Role.OBSERVER.value,
            wanted=Role.USER.value,
        ) from None


def reserve(connection: Connection, request: ReserveArgs, deadline: Deadline) -> Reservation:
    """Allocate devices, or a place in the queue.

    Without an answer nothing stays reserved: if control did it all the same, it undoes it.
    """
    name = new_id()
    within = Deadline.after(min(TIMEOUT, deadline.remaining))
    try:
        # Sent in here: an interruption may come before we wait.
        answer = send(connection, "reserve", request, ReservationReply, within, request=name)
        with _observers_told(connection, "reserve"):
            return answer.wait().reservation
    except (DeadlineExceeded, BrokerUnavailable, DatabaseUnavailable, InternalError):
        _withdraw(connection, name, Deadline.after(UNANSWERED))
        raise
    except IcebusError:
        raise
    except BaseException:
        # Interrupted: there may be no later.
        withdrawn = _withdraw(connection, name, Deadline.after(INTERRUPTED))
        with suppress(IcebusError):
            withdrawn.wait()
        raise


def _withdraw(connection: Connection, name: str, deadline: Deadline) -> Answer[WithdrawReply]:
    """Undo a request to reserve that has no answer, as soon as control answers again."""
    args = WithdrawArgs(request=name)
    withdrawn = send(connection, "withdraw", args, WithdrawReply, deadline)
    withdrawn.add_done_callback(_note_withdrawn)
    return withdrawn


def _note_withdrawn(withdrawn: Future[WithdrawReply]) -> None:
    error = withdrawn.exception()
    if error is not None:
        log.warning("could not undo a reserve that was not answered: %s", error)


def grow(
    connection: Connection,
    reservation: str,
    *,
    count: int | None,
    serials: Sequence[str] | None,
    selector: str | None,
    deadline: Deadline,
) -> Reservation:
    """Have more devices for a reservation, now or not at all; those soon free are waited for."""
    args = validated(
        GrowArgs,
        "grow",
        reservation=reservation,
        count=count,
        serials=serials_of(serials),
        selector=selector,
    )
    until = Deadline.after(min(SOON_FREE, deadline.remaining))
    while True:
        within = min(TIMEOUT, deadline.remaining)
        try:
            return ask(connection, "grow", args, ReservationReply, within).reservation
        except (NotEnoughDevices, DeviceUnavailable) as error:
            if error.details.get("soon") is not True or until.remaining < ASK_AGAIN:
                raise
        # Nobody tells of that, and growing does not queue.
        sleep(ASK_AGAIN)


def extend(
    connection: Connection, reservation: str, duration: float, timeout: float = TIMEOUT
) -> Reservation:
    """Move the end of a reservation by ``duration`` seconds."""
    args = validated(ExtendArgs, "extend", reservation=reservation, duration=duration)
    return ask(connection, "extend", args, ExtendReply, timeout).reservation


def end(
    connection: Connection,
    reservation: str,
    serials: Sequence[str] | None = None,
    *,
    timeout: float = TIMEOUT,
) -> Reservation:
    """End a reservation, or let go of some of its devices."""
    args = validated(
        EndArgs,
        "end",
        reservation=reservation,
        serials=serials_of(serials),
    )
    return ask(connection, "end", args, ReservationReply, timeout).reservation


def reboot(
    connection: Connection,
    reservation: str,
    serials: Sequence[str] | None = None,
    *,
    timeout: float = TIMEOUT,
) -> Reservation:
    """Have devices of a reservation restarted."""
    args = validated(
        RebootHeldArgs,
        "reboot",
        reservation=reservation,
        serials=serials_of(serials),
    )
    return ask(connection, "reboot", args, ReservationReply, timeout).reservation


def transfer(
    connection: Connection,
    reservation: str,
    user: str | None,
    *,
    wait: float,
    timeout: float = TIMEOUT,
) -> Reservation:
    """Offer a reservation to another user for ``wait`` seconds; None withdraws the offer."""
    args = validated(TransferArgs, "transfer", reservation=reservation, user=user, wait=wait)
    return ask(connection, "transfer", args, ReservationReply, timeout).reservation


def accept(connection: Connection, reservation: str, timeout: float = TIMEOUT) -> Reservation:
    """Take a reservation that is offered to us."""
    args = validated(AcceptArgs, "accept", reservation=reservation)
    return ask(connection, "accept", args, ReservationReply, timeout).reservation


def decline(connection: Connection, reservation: str, timeout: float = TIMEOUT) -> Reservation:
    """Refuse a reservation that is offered to us."""
    args = validated(DeclineArgs, "decline", reservation=reservation)
    return ask(connection, "decline", args, ReservationReply, timeout).reservation


def attach(connection: Connection, reservation: str, timeout: float = TIMEOUT) -> Reservation:
    """Have a reservation depend on this client."""
    args = validated(AttachArgs, "attach", reservation=reservation, client=connection.client)
    return ask(connection, "attach", args, ReservationReply, timeout).reservation


def list_reservations(
    connection: Connection, user: str | None, timeout: float = TIMEOUT
) -> list[Reservation]:
    """Reservations that have not ended."""
    args = ListArgs(user=user)
    return ask(connection, "list", args, ReservationsReply, timeout).reservations


def list_offers(connection: Connection, timeout: float = TIMEOUT) -> list[Reservation]:
    """Reservations that others offer to us."""
    listed = list_reservations(connection, None, timeout)
    return [each for each in listed if each.offer and each.offer.to == connection.user]


def list_devices(connection: Connection, timeout: float = TIMEOUT) -> list[KnownDevice]:
    """All devices that control knows."""
    return ask(connection, "devices", DevicesArgs(), DevicesReply, timeout).devices


def available(
    connection: Connection, kind: str | None, selector: str | None = None, timeout: float = TIMEOUT
) -> list[str]:
    """The devices that a reservation of that kind could have now."""
    args = validated(AvailableArgs, "available", kind=kind, selector=selector)
    return ask(connection, "available", args, AvailableReply, timeout).serials


def limits(connection: Connection, timeout: float = TIMEOUT) -> LimitsReply:
    """What we may have, and have."""
    return ask(connection, "limits", LimitsArgs(), LimitsReply, timeout)


def history(
    connection: Connection,
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
    if not isinstance(limit, int):
        raise InvalidRequest(f"history: limit must be an integer, not {limit!r}")
    entries: list[HistoryEntry] = []
    while len(entries) < limit:
        page = min(HISTORY_PAGE, limit - len(entries))
        args = validated(
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
        found = send(connection, "history", args, HistoryReply, deadline).wait().entries
        entries += found
        if len(found) < page:
            break
    return entries
