"""The operations that change nothing."""

from __future__ import annotations

from sqlalchemy import func
from sqlmodel import col, select

from icebus.control.decide import hours as week
from icebus.control.decide.obstacles import Wanted
from icebus.control.decide.scheduler import free_for
from icebus.control.operations import hours, queue
from icebus.control.operations.candidates import candidates, draining_workers, stored_devices
from icebus.control.store import history as stored_history
from icebus.control.store.live import IS_LIVE
from icebus.control.store.tables import ReservationRow
from icebus.control.transaction import Transaction
from icebus.schemas.liveness import Health
from icebus.schemas.operations.history import HistoryArgs, HistoryReply
from icebus.schemas.operations.limits import LimitsArgs, LimitsReply
from icebus.schemas.operations.reservations import (
    AvailableArgs,
    AvailableReply,
    DevicesArgs,
    DevicesReply,
    KnownDevice,
    ListArgs,
    ReservationsReply,
)
from icebus.schemas.selectors import labels_of, parse


def reservations(transaction: Transaction, _user: str, args: ListArgs) -> ReservationsReply:
    """All reservations that have not ended, oldest first."""
    query = select(ReservationRow).where(IS_LIVE)
    if args.user is not None:
        query = query.where(ReservationRow.user == args.user)
    query = query.order_by(col(ReservationRow.created), col(ReservationRow.id))
    rows = transaction.session.exec(query)
    return ReservationsReply(reservations=transaction.documents(rows))


def devices(transaction: Transaction, _user: str, _args: DevicesArgs) -> DevicesReply:
    """All devices that control knows."""
    draining = draining_workers(transaction)
    found = []
    for each in stored_devices(transaction):
        report = transaction.workers.report(each.serial)
        owner = transaction.workers.owner(each.serial)
        if report is None or owner is None:
            continue
        found.append(
            KnownDevice(
                worker=owner,
                report=report,
                fresh=transaction.health(owner) is Health.READY,
                reservation=each.reservation,
                user=each.user,
                labels=labels_of(owner, report),
                quarantined=each.quarantined,
                draining=draining.get(owner),
                claimed_by=each.claimed_by or [],
            )
        )
    return DevicesReply(devices=found)


def available(transaction: Transaction, user: str, args: AvailableArgs) -> AvailableReply:
    """The devices that a reservation of a kind could have now."""
    firmware = transaction.workers.kinds().offering(args.kind)
    wanted = Wanted(
        args.kind,
        firmware,
        count=1,
        selector=parse(args.selector or ""),
        allowed=transaction.limit(user).selectors,
    )
    held_back = queue.preview(transaction).held_back
    free = free_for(candidates(transaction), wanted)
    serials = [serial for serial in free if serial not in held_back]
    return AvailableReply(kind=args.kind, available=len(serials), serials=serials)


def history(transaction: Transaction, _user: str, args: HistoryArgs) -> HistoryReply:
    """What happened, the newest first."""
    return HistoryReply(entries=stored_history.read(transaction.session, args))


def limits(transaction: Transaction, user: str, _args: LimitsArgs) -> LimitsReply:
    """What a user may have, and has."""
    limit = transaction.limit(user)
    live = transaction.session.exec(
        select(func.count()).select_from(ReservationRow).where(ReservationRow.user == user, IS_LIVE)
    ).one()
    had, now = hours.uses(transaction, user), transaction.now
    free_again = None
    if limit.hours_a_week is not None and not week.has_left(had, limit.hours_a_week, 1, now):
        free_again = week.free_again(had, limit.hours_a_week, 1, now)
    return LimitsReply(
        user=user,
        groups=list(transaction.roster.groups(user)),
        devices=limit.devices,
        devices_held=sum(use.ended is None for use in had),
        reservations=limit.reservations,
        reservations_live=live,
        priority=limit.priority,
        hours_a_week=limit.hours_a_week,
        hours_used=week.used(had, now) / 3600,
        hours_free_again=free_again,
        selector=list(limit.selector),
    )
