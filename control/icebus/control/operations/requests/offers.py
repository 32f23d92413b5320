"""Reservations that change hands: offered by whoever has them, and accepted or declined.

Until an offer is accepted nothing changes: the reservation counts for its holder and serves them.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func
from sqlmodel import select

from icebus.control.operations import hours
from icebus.control.operations.requests.limits import refuse_received
from icebus.control.operations.reservations import (
    end_offer,
    end_with_hours,
    find_live,
    find_own,
    increment_generation,
    live_holds,
)
from icebus.control.store.live import IS_LIVE
from icebus.control.store.tables import ReservationRow
from icebus.control.transaction import Transaction
from icebus.schemas.errors import Conflict, Forbidden, InvalidRequest, LimitExceeded
from icebus.schemas.operations.history import HistoryEvent
from icebus.schemas.operations.offers import (
    AcceptArgs,
    DeclineArgs,
    Offered,
    OfferEnd,
    TransferArgs,
    Transferred,
)
from icebus.schemas.operations.reservations import HoldState, ReservationReply
from icebus.schemas.wording import counted

OFFERS_TO_ONE = 5
"""Offers that one user may have standing to another: enough for a bench that changes hands, and
few enough to be declined one by one."""

OFFERS_FOR_ONE = 50
"""Offers that may stand to one user, whoever made them: what a list of them can show."""


def transfer(transaction: Transaction, user: str, args: TransferArgs) -> ReservationReply:
    """Offer a reservation to another user, or withdraw the offer."""
    row = find_own(transaction, user, args.reservation)
    if args.user is None:
        if row.offered_to is None:
            raise InvalidRequest(
                f"reservation {row.id} is offered to nobody, so there is nothing to withdraw"
            )
        end_offer(transaction, row, OfferEnd.WITHDRAWN, actor=user)
    elif args.user == user:
        raise InvalidRequest(f"reservation {row.id} is {user}'s already")
    elif row.offered_to is not None and row.offered_to != args.user:
        raise Conflict(
            f"reservation {row.id} is offered to {row.offered_to}; "
            f"`icebus transfer {row.id} --withdraw` takes that back",
            reservation=row.id,
            user=row.offered_to,
        )
    elif row.offered_to is None:
        transaction.roster.check_may_hold(args.user)
        _refuse_too_many(transaction, user, args.user)
        _offer(transaction, row, args.user, args.wait)
    return ReservationReply(reservation=transaction.document(row))


def accept(transaction: Transaction, user: str, args: AcceptArgs) -> ReservationReply:
    """Make a reservation that was offered to a user his, and his alone."""
    row = _find_offered(transaction, user, args.reservation)
    giver = row.user
    holds = live_holds(transaction, row)
    refuse_received(transaction, user, row, len(holds))
    transaction.send_event(row, "transferred", Transferred(reservation=row.id, user=user))
    hours.end(transaction, row.id, [hold.serial for hold in holds])
    row.user, row.client, row.absent_since = user, None, None
    hours.begin(transaction, row, [hold.serial for hold in holds])
    end_with_hours(transaction, user)
    row.incarnation = transaction.roster.incarnation(user)
    row.offered_to = row.offered_until = row.offered_incarnation = None
    transaction.record_history(HistoryEvent.TRANSFERRED, row, actor=user, reason=f"from {giver}")
    transaction.log(f"{user} accepts a reservation of {giver}", reservation=row.id)
    for hold in holds:
        # Its worker begins anew for another user, who is told as if it had just been given.
        if hold.state is HoldState.SERVING:
            hold.state = HoldState.PREPARING
    for device in increment_generation(transaction, [hold.serial for hold in holds]):
        transaction.publish_desired(device, row)
    transaction.publish_document(row)
    transaction.request_scheduling()
    return ReservationReply(reservation=transaction.document(row))


def decline(transaction: Transaction, user: str, args: DeclineArgs) -> ReservationReply:
    """Leave a reservation that was offered to a user to whoever has it."""
    row = _find_offered(transaction, user, args.reservation)
    end_offer(transaction, row, OfferEnd.DECLINED, actor=user)
    return ReservationReply(reservation=transaction.document(row))


def _offer(transaction: Transaction, row: ReservationRow, to: str, seconds: float) -> None:
    until = transaction.now + timedelta(seconds=seconds)
    # It must be there still when the other one accepts, whatever becomes of the client.
    row.client = row.absent_since = None
    row.offered_to, row.offered_until = to, until
    row.offered_incarnation = transaction.roster.incarnation(to)
    transaction.falls_due(until)
    transaction.publish_document(row)
    offered = Offered(
        reservation=row.id,
        user=row.user,
        kind=row.kind,
        devices=len(live_holds(transaction, row)),
        until=until,
    )
    transaction.send_event(row, "offered", offered, user=to)
    transaction.record_history(HistoryEvent.OFFERED, row, actor=row.user, reason=f"to {to}")
    transaction.log(f"{row.user} offers a reservation to {to}", reservation=row.id)


def _find_offered(transaction: Transaction, user: str, name: str) -> ReservationRow:
    row = find_live(transaction, name)
    if row.offered_to != user or transaction.roster.why_not(user, row.offered_incarnation):
        raise Forbidden(
            f"reservation {name} is not offered to {user}; `icebus reservations` lists what is",
            reservation=name,
        )
    if row.offered_until is not None and row.offered_until <= transaction.now:
        raise Forbidden(
            f"the offer of reservation {name} has expired; ask {row.user} to offer it again",
            reservation=name,
        )
    return row


def _refuse_too_many(transaction: Transaction, user: str, to: str) -> None:
    """Refuse to burden somebody with more offers than they could look at."""
    offers = (
        select(func.count())
        .select_from(ReservationRow)
        .where(ReservationRow.offered_to == to, IS_LIVE)
    )
    ours = transaction.session.exec(offers.where(ReservationRow.user == user)).one()
    if ours >= OFFERS_TO_ONE:
        raise LimitExceeded(
            f"{to} has not yet answered {counted(ours, 'offer')} of {user}'s, and {OFFERS_TO_ONE} "
            "may stand; wait for an answer, or withdraw one",
            limit=OFFERS_TO_ONE,
            wanted=ours + 1,
        )
    everybodys = transaction.session.exec(offers).one()
    if everybodys >= OFFERS_FOR_ONE:
        raise LimitExceeded(
            f"{to} has not yet answered {counted(everybodys, 'offer')}, and {OFFERS_FOR_ONE} may "
            "stand; try again later",
            limit=OFFERS_FOR_ONE,
            wanted=everybodys + 1,
        )
