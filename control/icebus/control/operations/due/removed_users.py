"""Users whom the broker knows no more, or as somebody who can hold nothing: what they had ends.

Level-triggered: what the broker says now is compared with what is reserved now, whenever either may
have changed, so that a removal ends reservations also when nobody was there to see it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, func
from sqlmodel import col, select

from icebus.control.operations.due.retirement import retire_unknown
from icebus.control.operations.reservations import end_offer, end_reservation
from icebus.control.store.live import IS_LIVE
from icebus.control.store.tables import RequestRow, ReservationRow, UseRow
from icebus.control.transaction import Transaction
from icebus.schemas.operations.offers import OfferEnd
from icebus.schemas.operations.reservations import EndReason

LATE = timedelta(seconds=10)
"""How much later than somebody's first reservation we may hear that the broker knows them: its
service looks for changes every second. It does not matter for those of whom we heard already."""


def compare_with_roster(transaction: Transaction) -> None:
    """End what those have who may hold nothing, if it is known who there is."""
    roster = transaction.roster
    if not roster.known:
        return
    late = transaction.now - LATE
    for row in transaction.session.exec(select(ReservationRow).where(IS_LIVE)).all():
        why = roster.why_not(row.user, row.incarnation)
        if why is not None:
            if row.created <= late or roster.saw_dismissed(row.user, row.incarnation):
                end_reservation(transaction, row, EndReason.USER_REMOVED, explanation=why)
            continue
        to, which = row.offered_to, row.offered_incarnation
        young = row.created > late and not roster.saw_dismissed(to or "", which)
        if to and not young and roster.why_not(to, which):
            end_offer(transaction, row, OfferEnd.USER_REMOVED)
    _forget_former(transaction)
    if (principals := roster.all_told) is not None:
        retire_unknown(transaction, principals)


def end_abandoned(transaction: Transaction, row: ReservationRow) -> None:
    """End what has lost its client for too long: clients of those who were removed all do."""
    why = transaction.roster.why_not(row.user, row.incarnation)
    if why is None:
        end_reservation(transaction, row, EndReason.CLIENT_LOST)
    else:
        end_reservation(transaction, row, EndReason.USER_REMOVED, explanation=why)


def _forget_former(transaction: Transaction) -> None:
    """Forget what those asked and had who were removed: whoever is called so later starts anew."""
    session, roster = transaction.session, transaction.roster
    late = transaction.now - LATE
    asked = set(session.exec(select(RequestRow.user).distinct()))
    for user in sorted(user for user in asked if not roster.may_ask(user)):
        _forget_requests(transaction, user, late)
    for user, until in roster.replaced(transaction.now).items():
        _forget_requests(transaction, user, until)
    used = set(session.exec(select(UseRow.user).distinct()))
    for user in sorted(user for user in used if not roster.may_ask(user)):
        theirs = col(UseRow.user) == user
        session.execute(delete(UseRow).where(theirs, col(UseRow.ended) <= late))
    of_reservations = (
        select(ReservationRow.user, ReservationRow.incarnation, func.max(ReservationRow.created))
        .join(UseRow, col(UseRow.reservation) == col(ReservationRow.id))
        .where(col(ReservationRow.incarnation).is_not(None))
        .group_by(col(ReservationRow.user), col(ReservationRow.incarnation))
    )
    for user, incarnation, last in session.exec(of_reservations).all():
        current = roster.incarnation(user)
        if current in (None, incarnation):
            continue
        _forget_requests(transaction, user, last)
        formers = select(ReservationRow.id).where(
            col(ReservationRow.user) == user, col(ReservationRow.incarnation) == incarnation
        )
        theirs = col(UseRow.reservation).in_(formers)
        session.execute(delete(UseRow).where(theirs, col(UseRow.ended).is_not(None)))


def _forget_requests(transaction: Transaction, user: str, until: datetime) -> None:
    """Whoever is called so later shall not get answers of those who were called so before."""
    theirs = col(RequestRow.user) == user
    transaction.session.execute(delete(RequestRow).where(theirs, col(RequestRow.at) <= until))
