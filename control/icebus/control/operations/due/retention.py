"""What is kept for a time, deleted in portions that no request waits noticeably for.

Reservations that have ended, and their holds, are kept so that whoever comes back is told why
theirs is over; the hours of a week and the history are written down apart, and outlive them.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, func
from sqlalchemy.orm import Mapped
from sqlmodel import SQLModel, col, select

from icebus.control.operations.due.retirement import drop_orphans
from icebus.control.operations.hours import KEPT
from icebus.control.store.live import HAS_ENDED
from icebus.control.store.tables import HistoryRow, HoldRow, RequestRow, ReservationRow, UseRow
from icebus.control.transaction import Transaction

REQUESTS_REMEMBERED = timedelta(hours=1)
"""How long answers are remembered in the database: far longer than anybody goes on retrying."""

REQUESTS_OF_USER = 4096
"""Answers remembered of one user, of whom there may be more until they are dropped once a minute:
who sends as many as are taken would otherwise fill the disk with them."""

PORTION = 250
"""Rows of each table deleted at a time, within a few milliseconds."""


def drop_some(transaction: Transaction) -> bool:
    """Delete a portion of what is too old; returns whether there may be more."""
    now, settings = transaction.now, transaction.settings
    more = [
        _drop_before(transaction, RequestRow, col(RequestRow.at), now - REQUESTS_REMEMBERED),
        _drop_before(transaction, UseRow, col(UseRow.ended), now - KEPT),
        _drop_before(
            transaction,
            HistoryRow,
            col(HistoryRow.at),
            now - timedelta(days=settings.history_days),
        ),
        _drop_ended(transaction, now - timedelta(days=settings.ended_days)),
    ]
    if any(more):
        return True
    _drop_many_requests(transaction)
    drop_orphans(transaction)
    return False


def _drop_before(
    transaction: Transaction,
    table: type[SQLModel],
    at: Mapped[datetime] | Mapped[datetime | None],
    oldest: datetime,
) -> bool:
    """Delete rows of a table that are older than that; returns whether there may be more."""
    last = select(at).where(at < oldest).order_by(at).offset(PORTION - 1).limit(1)
    portion = transaction.session.exec(last).first()
    # All of one moment go together, for those of one transaction have the same.
    old = at < oldest if portion is None else at <= portion
    transaction.session.execute(delete(table).where(old))
    return portion is not None


def _drop_ended(transaction: Transaction, oldest: datetime) -> bool:
    """Delete reservations that ended before that; returns whether there may be more."""
    query = (
        select(ReservationRow.id)
        .where(HAS_ENDED, col(ReservationRow.until) < oldest)
        .order_by(col(ReservationRow.until))
        .limit(PORTION)
    )
    names = transaction.session.exec(query).all()
    if names:
        transaction.session.execute(delete(HoldRow).where(col(HoldRow.reservation).in_(names)))
        transaction.session.execute(delete(ReservationRow).where(col(ReservationRow.id).in_(names)))
    return len(names) == PORTION


def _drop_many_requests(transaction: Transaction) -> None:
    """Delete the oldest answers of those of whom too many are remembered."""
    many = select(RequestRow.user).group_by(col(RequestRow.user))
    many = many.having(func.count() > REQUESTS_OF_USER)
    for user in transaction.session.exec(many).all():
        moments = select(RequestRow.at).where(RequestRow.user == user)
        newest = moments.order_by(col(RequestRow.at).desc()).offset(REQUESTS_OF_USER).limit(1)
        beyond = transaction.session.exec(newest).one()
        too_many = delete(RequestRow).where(
            col(RequestRow.user) == user, col(RequestRow.at) <= beyond
        )
        transaction.session.execute(too_many)
