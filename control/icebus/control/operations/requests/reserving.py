"""The operations by which users get devices, keep them and give them back."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from sqlmodel import col, select

from icebus.control.decide.obstacles import told_of_reservation
from icebus.control.operations import queue
from icebus.control.operations.requests.commands import reboot_devices
from icebus.control.operations.requests.limits import refuse_impossible
from icebus.control.operations.requests.remembered_requests import withdraw_request
from icebus.control.operations.reservations import (
    activate_if_served,
    add_devices,
    end_reservation,
    end_with_hours,
    enqueue,
    find_own,
    live_holds,
    release_devices,
    warning_time,
)
from icebus.control.store.live import IS_HELD
from icebus.control.store.tables import DeviceRow, HoldRow, ReservationRow
from icebus.control.transaction import Transaction
from icebus.schemas.errors import (
    DeviceNotHeld,
    DeviceUnavailable,
    InvalidRequest,
    NotEnoughDevices,
    ReservationQueued,
    UnknownDevice,
)
from icebus.schemas.ids import new_id
from icebus.schemas.operations.history import HistoryEvent
from icebus.schemas.operations.reservations import (
    AttachArgs,
    EndArgs,
    EndReason,
    ExtendArgs,
    ExtendReply,
    GrowArgs,
    RebootHeldArgs,
    ReservationReply,
    ReservationState,
    ReserveArgs,
    WithdrawArgs,
    WithdrawReply,
)
from icebus.schemas.selectors import parse
from icebus.schemas.wording import lasting

LONGEST_WAIT = 30 * 86_400.0
"""Seconds that anybody waits in the queue at most."""


def reserve(transaction: Transaction, user: str, args: ReserveArgs) -> ReservationReply:
    """Give devices to a user: all that are asked for, or none; now, or when they are free."""
    longest = transaction.settings.max_duration
    if args.duration > longest:
        raise InvalidRequest(
            f"{lasting(args.duration)} is longer than the {lasting(longest)} that a reservation "
            "may last here; reserve for less and extend it",
            max_duration=longest,
        )
    if args.wait > LONGEST_WAIT:
        raise InvalidRequest(
            f"{lasting(args.wait)} is longer than the {lasting(LONGEST_WAIT)} that a request may "
            "wait for devices; wait for less, and reserve again then",
            longest_wait=LONGEST_WAIT,
        )
    parse(args.selector or "")
    kinds = transaction.workers.kinds()
    kinds.accepting(args.kind, args.args)
    _refuse_unknown(transaction, args.serials or ())
    refuse_impossible(transaction, user, args)
    row = ReservationRow(
        id=new_id(),
        user=user,
        incarnation=transaction.roster.incarnation(user),
        kind=args.kind,
        args=args.args,
        state=ReservationState.QUEUED,
        created=transaction.now,
        until=transaction.now + timedelta(seconds=args.wait),
        count=args.count,
        serials=args.serials,
        selector=args.selector,
        duration=args.duration,
        priority=args.priority,
        replace=args.replace,
    )
    _attach(transaction, row, args.client)
    place = queue.schedule(transaction, row, kinds).places.get(row.id)
    if place is not None:
        if not args.wait:
            raise place.refusal
        queue.set_place(transaction, row, place)
        enqueue(transaction, row)
    return ReservationReply(reservation=transaction.document(row))


def grow(transaction: Transaction, user: str, args: GrowArgs) -> ReservationReply:
    """Give more devices to a reservation, if they can be had now without passing who waits."""
    row = find_own(transaction, user, args.reservation)
    _refuse_queued(row)
    parse(args.selector or "")
    _refuse_unknown(transaction, args.serials or ())
    _refuse_present(transaction, row, args.serials or ())
    left = (row.until - transaction.now).total_seconds()
    wanted = ReservationRow(
        id=new_id(),
        user=user,
        incarnation=row.incarnation,
        kind=row.kind,
        args=row.args,
        state=ReservationState.QUEUED,
        created=transaction.now,
        until=row.until,
        count=args.count,
        serials=args.serials,
        selector=row.selector if args.selector is None and args.count else args.selector,
        duration=max(0.0, left),
        priority=row.priority,
    )

    def give(_: Transaction, request: ReservationRow, serials: Collection[str]) -> None:
        request.state = ReservationState.PREPARING
        add_devices(transaction, row, serials)

    place = queue.schedule(transaction, wanted, give=give, grows=True).places.get(wanted.id)
    if place is not None:
        if not isinstance(place.refusal, NotEnoughDevices):
            raise place.refusal
        has = [hold.serial for hold in live_holds(transaction, row)]
        raise told_of_reservation(place.refusal, row.id, has)
    return ReservationReply(reservation=transaction.document(row))


def withdraw(transaction: Transaction, user: str, args: WithdrawArgs) -> WithdrawReply:
    """Undo a request to reserve whose answer nobody got; one that never came is refused if it does.

    Whoever has no answer can't know whether there is a reservation of his.
    """
    reply = withdraw_request(transaction, user, args.request, "reserve") or {}
    made = reply.get("reservation")
    row = None if made is None else transaction.session.get(ReservationRow, made["id"])
    if row is None or row.user != user or row.state is ReservationState.ENDED:
        return WithdrawReply(reservation=None)
    holds = end_reservation(transaction, row, EndReason.RELEASED, actor=user)
    return WithdrawReply(reservation=transaction.document(row, holds))


def extend(transaction: Transaction, user: str, args: ExtendArgs) -> ExtendReply:
    """Move the end of a reservation, as far as allowed and never nearer."""
    row = find_own(transaction, user, args.reservation)
    _refuse_queued(row)
    before = row.until
    longest = transaction.settings.max_duration
    # Bounded first: the sum of a date and a huge number of seconds is not a date.
    asked = before + timedelta(seconds=min(args.duration, longest))
    after = max(before, min(asked, transaction.now + timedelta(seconds=longest)))
    if after > before:
        row.until, row.warn_at = after, warning_time(transaction.now, after)
        end_with_hours(transaction, user)
        after = row.until
        transaction.falls_due(row.warn_at)
        transaction.publish_document(row)
        transaction.request_scheduling()
        until = after.isoformat(timespec="seconds")
        transaction.record_history(HistoryEvent.EXTENDED, row, actor=user, reason=f"until {until}")
        held = transaction.session.exec(
            select(DeviceRow)
            .join(HoldRow, col(HoldRow.serial) == col(DeviceRow.serial))
            .where(HoldRow.reservation == row.id, IS_HELD)
        )
        for device in held:
            transaction.publish_desired(device, row)
    return ExtendReply(reservation=transaction.document(row), before=before, after=after)


def end(transaction: Transaction, user: str, args: EndArgs) -> ReservationReply:
    """Release devices of a reservation; without the last one it is over."""
    row = find_own(transaction, user, args.reservation)
    if args.serials is not None:
        live = _holds_of(transaction, row, args.serials)
        if live.keys() > set(args.serials):
            released = [live[serial] for serial in sorted(set(args.serials))]
            release_devices(transaction, row, released, EndReason.RELEASED.value, actor=user)
            activate_if_served(transaction, [row])
            return ReservationReply(reservation=transaction.document(row))
    holds = end_reservation(transaction, row, EndReason.RELEASED, actor=user)
    return ReservationReply(reservation=transaction.document(row, holds))


def reboot(transaction: Transaction, user: str, args: RebootHeldArgs) -> ReservationReply:
    """Have boards of a reservation restarted, which keeps them."""
    row = find_own(transaction, user, args.reservation)
    live = _holds_of(transaction, row, args.serials or ())
    reboot_devices(transaction, user, args.serials or list(live))
    return ReservationReply(reservation=transaction.document(row))


def attach(transaction: Transaction, user: str, args: AttachArgs) -> ReservationReply:
    """Make a reservation depend on another client's presence, or on nobody's."""
    row = find_own(transaction, user, args.reservation)
    _attach(transaction, row, args.client)
    transaction.publish_document(row)
    whom = f"to {args.client}" if args.client is not None else "detached"
    transaction.record_history(HistoryEvent.ATTACHED, row, actor=user, reason=whom)
    return ReservationReply(reservation=transaction.document(row))


def _holds_of(
    transaction: Transaction, row: ReservationRow, serials: Collection[str]
) -> dict[str, HoldRow]:
    """All live holds of a reservation, by serial; those devices must be among them."""
    _refuse_queued(row)
    live = {hold.serial: hold for hold in live_holds(transaction, row)}
    missing = sorted(set(serials) - live.keys())
    if missing:
        raise DeviceNotHeld(
            f"reservation {row.id} does not hold {', '.join(missing)}", serials=missing
        )
    return live


def _refuse_present(
    transaction: Transaction, row: ReservationRow, serials: Collection[str]
) -> None:
    present = sorted({hold.serial for hold in live_holds(transaction, row)} & set(serials))
    if present:
        raise DeviceUnavailable(
            f"{', '.join(present)} is in reservation {row.id} already; name others",
            serials=dict.fromkeys(present, f"in reservation {row.id} already"),
            temporary=False,
        )


def _refuse_queued(row: ReservationRow) -> None:
    if row.state is ReservationState.QUEUED:
        raise ReservationQueued(
            f"reservation {row.id} has no devices yet, it waits: {row.waits_for}; "
            "end it to stop waiting",
            reservation=row.id,
            position=row.position,
        )


def _attach(transaction: Transaction, row: ReservationRow, client: str | None) -> None:
    """Make a reservation depend on a client's presence, or on nobody's."""
    row.client, row.absent_since = client, None
    if client is not None and not transaction.clients.online(row.user, client):
        row.absent_since = transaction.now
        transaction.falls_due(transaction.now + timedelta(seconds=transaction.settings.grace))


def _refuse_unknown(transaction: Transaction, serials: Collection[str]) -> None:
    if not serials:
        return
    query = select(DeviceRow.serial).where(col(DeviceRow.serial).in_(serials))
    known = set(transaction.session.exec(query))
    unknown = sorted(set(serials) - known)
    if unknown:
        raise UnknownDevice(
            f"no device {', '.join(unknown)}; `icebus devices` lists those there are",
            serials=unknown,
        )
