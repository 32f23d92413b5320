"""What falls due: warnings, ends, and the patience with absent clients."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, func
from sqlmodel import col, or_, select

from icebus.control.decide.lifecycle import LIVE_RESERVATIONS
from icebus.control.operations.reservations import finish
from icebus.control.store import history as chronicle
from icebus.control.store.tables import RequestRow, ReservationRow
from icebus.control.store.transaction import Work
from icebus.schemas.reservations import EndingSoon, EndReason, ReservationState

REQUESTS_KEPT = timedelta(hours=1)
"""How long answers are remembered in the database: far longer than anybody goes on retrying."""


def sweep(work: Work, *, connected: bool) -> None:
    """Do all that is due. Clients are not missed while we could not see them."""
    work.rescheduled = True
    due = [col(ReservationRow.until) <= work.now, col(ReservationRow.warn_at) <= work.now]
    patience = work.now - timedelta(seconds=work.settings.grace)
    if connected:
        due.append(col(ReservationRow.orphaned_since) <= patience)
    query = select(ReservationRow).where(
        col(ReservationRow.state).in_(LIVE_RESERVATIONS), or_(*due)
    )
    for reservation in work.session.exec(query).all():
        orphaned = reservation.orphaned_since
        if reservation.until <= work.now:
            queued = reservation.state is ReservationState.QUEUED
            finish(work, reservation, EndReason.NOT_IN_TIME if queued else EndReason.EXPIRED)
        elif connected and orphaned is not None and orphaned <= patience:
            finish(work, reservation, EndReason.CLIENT_LOST)
        else:
            reservation.warn_at = None
            soon = EndingSoon(reservation=reservation.id, until=reservation.until)
            work.tell(reservation, "reservation_ending_soon", soon)


def next_due(work: Work, *, connected: bool) -> datetime | None:
    """The moment at which :func:`sweep` has something to do next."""
    until, warning, orphaned = work.session.exec(
        select(
            func.min(ReservationRow.until),
            func.min(ReservationRow.warn_at),
            func.min(ReservationRow.orphaned_since),
        ).where(col(ReservationRow.state).in_(LIVE_RESERVATIONS))
    ).one()
    moments: list[datetime | None] = [until, warning]
    if connected and orphaned is not None:
        moments.append(orphaned + timedelta(seconds=work.settings.grace))
    return min((each for each in moments if each is not None), default=None)


def shift(work: Work, seconds: float) -> None:
    """The clock was set by so much: let all that live last as long as they would have.

    Otherwise a clock set right would end every reservation, or none for hours.
    """
    work.rescheduled = True
    work.note(f"the clock was set by {seconds:+.0f} s; reservations move with it")
    by = timedelta(seconds=seconds)
    query = select(ReservationRow).where(col(ReservationRow.state).in_(LIVE_RESERVATIONS))
    for reservation in work.session.exec(query).all():
        reservation.created += by
        reservation.until += by
        if reservation.warn_at is not None:
            reservation.warn_at += by
        if reservation.orphaned_since is not None:
            reservation.orphaned_since += by
        if reservation.estimate is not None:
            reservation.estimate += by
        work.change(reservation)


def prune(work: Work) -> None:
    """Forget the answers to old requests, and old history."""
    old = col(RequestRow.at) < work.now - REQUESTS_KEPT
    work.session.execute(delete(RequestRow).where(old))
    chronicle.prune(work)
