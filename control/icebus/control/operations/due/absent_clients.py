"""Clients that come and go, and what becomes of the reservations attached to them.

One that says goodbye releases them at once. One that is lost has a grace period: its reservations
are marked as those of an absent client, and :mod:`.expiry` ends them when that is over.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlmodel import col, select

from icebus.control.operations.reservations import end_reservation
from icebus.control.store.live import IS_LIVE
from icebus.control.store.tables import ReservationRow
from icebus.control.transaction import Transaction
from icebus.schemas.components import Presence
from icebus.schemas.operations.reservations import EndReason


def on_presence(transaction: Transaction, user: str, client: str, presence: Presence) -> None:
    """Follow a client's coming and going with the reservations attached to it."""
    transaction.due_unknown = True
    query = select(ReservationRow).where(
        IS_LIVE,
        ReservationRow.user == user,
        ReservationRow.client == client,
    )
    for reservation in transaction.session.exec(query):
        if presence is Presence.ONLINE:
            reservation.absent_since = None
        elif presence is Presence.OFFLINE:
            end_reservation(transaction, reservation, EndReason.RELEASED, actor=user)
        elif reservation.absent_since is None:
            reservation.absent_since = transaction.now


def restart_grace(transaction: Transaction) -> None:
    """Count the grace of absent clients from now: while we were away we could not see them."""
    transaction.due_unknown = True
    for reservation in _attached(transaction):
        reservation.absent_since = None
        _mark(transaction, reservation)


def begin_grace(transaction: Transaction) -> None:
    """Count the grace of absent clients to which other controls have attached reservations."""
    transaction.due_unknown = True
    for reservation in _attached(transaction):
        _mark(transaction, reservation)


def _attached(transaction: Transaction) -> Iterator[ReservationRow]:
    query = select(ReservationRow).where(IS_LIVE, col(ReservationRow.client).is_not(None))
    yield from transaction.session.exec(query)


def _mark(transaction: Transaction, reservation: ReservationRow) -> None:
    """Note since when the client is absent, if it is."""
    client = reservation.client
    if client is None or transaction.clients.online(reservation.user, client):
        reservation.absent_since = None
    elif reservation.absent_since is None:
        reservation.absent_since = transaction.now
