"""What users may have, held against what they have."""

from __future__ import annotations

from sqlalchemy import func
from sqlmodel import select

from icebus.control.operations import hours, queue
from icebus.control.operations.reservations import live_holds
from icebus.control.store.live import IS_LIVE
from icebus.control.store.tables import ReservationRow
from icebus.control.transaction import Transaction
from icebus.schemas.errors import LimitExceeded
from icebus.schemas.operations.reservations import ReservationState, ReserveArgs
from icebus.schemas.selectors import labels_of
from icebus.schemas.wording import counted


def refuse_impossible(transaction: Transaction, user: str, args: ReserveArgs) -> None:
    """Refuse what this user could not have, however long he waits.

    Raises:
        LimitExceeded: it is more than he may have.
    """
    number = len(args.serials) if args.serials is not None else args.count or 0
    _refuse_demand(transaction, user, args.priority, number)
    _refuse_over_limit(transaction, user, 0)


def refuse_received(
    transaction: Transaction, user: str, reservation: ReservationRow, devices: int
) -> None:
    """Refuse somebody else's reservation to a user who could not have made it himself.

    Args:
        transaction: everything happens in it.
        user: who is to have it.
        reservation: as its holder has it.
        devices: how many it holds.

    Raises:
        LimitExceeded: it is more than he may have.
    """
    wanted = devices
    if reservation.state is ReservationState.QUEUED:
        wanted = len(reservation.serials or ()) or reservation.count or 0
    _refuse_demand(transaction, user, reservation.priority, wanted)
    _refuse_over_limit(transaction, user, devices)
    if devices and (refusal := hours.refusal(transaction, user, devices)) is not None:
        raise refusal
    allowed = transaction.limit(user).selectors
    for hold in live_holds(transaction, reservation) if allowed else ():
        report = transaction.workers.report(hold.serial)
        labels = {} if report is None else labels_of(hold.worker, report)
        if not any(each.matches(labels) for each in allowed):
            raise LimitExceeded(
                f"{user} may have boards with {' or '.join(map(str, allowed))} only, and "
                f"{hold.serial} is none",
                serial=hold.serial,
            )


def _refuse_demand(transaction: Transaction, user: str, priority: int, number: int) -> None:
    """Refuse a request that goes beyond what the user may have, whatever else he has."""
    limit = transaction.limit(user)
    if priority > limit.priority:
        raise LimitExceeded(
            f"{user} may ask with priority {limit.priority} at most, not {priority}",
            limit=limit.priority,
            wanted=priority,
        )
    if limit.devices is not None and number > limit.devices:
        raise LimitExceeded(
            f"{user} wants {counted(number, 'device')}, but may hold {limit.devices}",
            limit=limit.devices,
            wanted=number,
        )


def _refuse_over_limit(transaction: Transaction, user: str, more_devices: int) -> None:
    """Refuse one more reservation, with so many devices, to whoever has enough."""
    limit = transaction.limit(user)
    reservations = transaction.session.exec(
        select(func.count()).select_from(ReservationRow).where(ReservationRow.user == user, IS_LIVE)
    ).one()
    if reservations >= limit.reservations:
        raise LimitExceeded(
            f"{user} has {counted(reservations, 'reservation')} of {limit.reservations} allowed; "
            "release one first",
            limit=limit.reservations,
            wanted=reservations + 1,
        )
    if limit.devices is None or not more_devices:
        return
    held = queue.count_held(transaction, [user]).get(user, 0)
    if held + more_devices > limit.devices:
        raise LimitExceeded(
            f"{user} holds {counted(held, 'device')} and may hold {limit.devices}, "
            f"so {more_devices} more would be too many",
            limit=limit.devices,
            wanted=held + more_devices,
        )
