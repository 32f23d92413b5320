"""What falls due: warnings, ends, and the grace of absent clients."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import func
from sqlmodel import col, or_, select

from icebus.control.operations import hours
from icebus.control.operations.due.removed_users import end_abandoned
from icebus.control.operations.reservations import end_offer, end_reservation
from icebus.control.store.live import IS_LIVE
from icebus.control.store.tables import ReservationRow
from icebus.control.transaction import Transaction
from icebus.schemas.operations.offers import OfferEnd
from icebus.schemas.operations.reservations import EndingSoon, EndReason, ReservationState


def do_due(transaction: Transaction, *, connected: bool) -> None:
    """Warn and end what is due. Clients are not missed while we could not see them."""
    transaction.due_unknown = True
    now = transaction.now
    due = [
        col(ReservationRow.until) <= now,
        col(ReservationRow.warn_at) <= now,
        col(ReservationRow.offered_until) <= now,
    ]
    # Whose client is absent since then, or longer, has had its grace.
    grace_began = now - timedelta(seconds=transaction.settings.grace)
    if connected:
        due.append(col(ReservationRow.absent_since) <= grace_began)
    query = select(ReservationRow).where(IS_LIVE, or_(*due))
    for reservation in transaction.session.exec(query).all():
        absent_since = reservation.absent_since
        if reservation.until <= now:
            queued = reservation.state is ReservationState.QUEUED
            used_up = not queued and hours.is_used_up(transaction, reservation.user)
            reached = EndReason.HOURS_USED_UP if used_up else EndReason.EXPIRED
            reason = EndReason.NOT_IN_TIME if queued else reached
            end_reservation(transaction, reservation, reason)
        elif connected and absent_since is not None and absent_since <= grace_began:
            end_abandoned(transaction, reservation)
        elif reservation.offered_until is not None and reservation.offered_until <= now:
            end_offer(transaction, reservation, OfferEnd.EXPIRED)
        else:
            reservation.warn_at = None
            soon = EndingSoon(reservation=reservation.id, until=reservation.until)
            transaction.send_event(reservation, "reservation_ending_soon", soon)


def next_due(transaction: Transaction, *, connected: bool) -> datetime | None:
    """The moment at which :func:`do_due` has something to do next."""
    until, warning, offered_until, absent_since = transaction.session.exec(
        select(
            func.min(ReservationRow.until),
            func.min(ReservationRow.warn_at),
            func.min(ReservationRow.offered_until),
            func.min(ReservationRow.absent_since),
        ).where(IS_LIVE)
    ).one()
    moments: list[datetime | None] = [until, warning, offered_until]
    if connected and absent_since is not None:
        moments.append(absent_since + timedelta(seconds=transaction.settings.grace))
    return min((each for each in moments if each is not None), default=None)


def shift(transaction: Transaction, seconds: float) -> None:
    """The clock was set by so much: let all that live last as long as they would have.

    Otherwise a clock set right would end every reservation, or none for hours.
    """
    transaction.due_unknown = True
    transaction.log(f"the clock was set by {seconds:+.0f} s; reservations move with it")
    by = timedelta(seconds=seconds)
    hours.shift(transaction, by)
    query = select(ReservationRow).where(IS_LIVE)
    for reservation in transaction.session.exec(query).all():
        reservation.created += by
        reservation.until += by
        if reservation.warn_at is not None:
            reservation.warn_at += by
        if reservation.offered_until is not None:
            reservation.offered_until += by
        if reservation.absent_since is not None:
            reservation.absent_since += by
        if reservation.estimate is not None:
            reservation.estimate += by
        reservation.published_estimate = reservation.estimate
        transaction.publish_document(reservation)
