"""The hours of boards that users have had, written down as devices come and go."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import timedelta

from sqlalchemy import insert
from sqlmodel import col, or_, select, update

from icebus.control.decide import hours
from icebus.control.decide.hours import WEEK, Use
from icebus.control.store.live import IS_LIVE
from icebus.control.store.tables import ReservationRow, UseRow
from icebus.control.transaction import Transaction
from icebus.schemas.errors import LimitExceeded
from icebus.schemas.operations.reservations import ReservationState

KEPT = WEEK + timedelta(days=1)
"""How long the use of a device is remembered: a clock may be set."""

ROUNDING = 1.0
"""Seconds that may be left of hours that were used up."""


def begin(transaction: Transaction, reservation: ReservationRow, serials: Iterable[str]) -> None:
    """Devices are a reservation's from now on."""
    rows = [
        {
            "user": reservation.user,
            "reservation": reservation.id,
            "serial": serial,
            "began": transaction.now,
        }
        for serial in serials
    ]
    if rows:
        transaction.session.execute(insert(UseRow), rows)


def end(transaction: Transaction, reservation: str, serials: Collection[str]) -> None:
    """Devices are a reservation's no more."""
    transaction.session.execute(
        update(UseRow)
        .where(
            col(UseRow.reservation) == reservation,
            col(UseRow.serial).in_(serials),
            col(UseRow.ended).is_(None),
        )
        .values(ended=transaction.now)
    )


def uses(transaction: Transaction, user: str) -> list[Use]:
    """What a user held in the last week, and holds."""
    query = select(UseRow.began, UseRow.ended).where(
        col(UseRow.user) == user,
        or_(col(UseRow.ended).is_(None), col(UseRow.ended) > transaction.now - WEEK),
    )
    return [Use(*row) for row in transaction.session.exec(query)]


def is_used_up(transaction: Transaction, user: str) -> bool:
    """Whether a user has had as many hours as he may."""
    limit = transaction.limit(user).hours_a_week
    if limit is None:
        return False
    return hours.used(uses(transaction, user), transaction.now) >= limit * 3600 - ROUNDING


def refusal(transaction: Transaction, user: str, number: int) -> LimitExceeded | None:
    """Why a user has not enough hours left for so many devices; None if he has."""
    limit = transaction.limit(user).hours_a_week
    if limit is None:
        return None
    had, now = uses(transaction, user), transaction.now
    if hours.has_left(had, limit, number, now):
        return None
    free = hours.free_again(had, limit, number, now)
    # Only what does not change with time goes into the words: whoever waits is told them again
    # whenever they change.
    return LimitExceeded(
        f"{user} has used up the {limit:g} board-hours that they may have in 7 days; "
        "`icebus limits` says when there are some again",
        limit=limit,
        wanted=number,
        free_again=None if free is None else free.isoformat(timespec="seconds"),
    )


def shorten(transaction: Transaction, user: str) -> list[ReservationRow]:
    """Have all that a user holds end when his hours run out, if that is before its time.

    Returns:
        The reservations that end earlier now; the caller says so to whom it concerns.
    """
    limit = transaction.limit(user).hours_a_week
    if limit is None:
        return []
    transaction.session.flush()
    had = uses(transaction, user)
    held = sum(use.ended is None for use in had)
    if not held:
        return []
    until = hours.runs_out(had, limit, held, transaction.now)
    query = select(ReservationRow).where(
        ReservationRow.user == user,
        IS_LIVE,
        col(ReservationRow.state) != ReservationState.QUEUED,
        col(ReservationRow.until) > until,
    )
    rows = list(transaction.session.exec(query).all())
    for row in rows:
        row.until = until
    return rows


def shift(transaction: Transaction, by: timedelta) -> None:
    """The clock was set: what is held was held for as long as it was."""
    for row in transaction.session.exec(select(UseRow).where(col(UseRow.ended).is_(None))):
        row.began += by
