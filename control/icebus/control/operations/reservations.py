"""What happens to reservations: they get devices, lose or exchange some, and end."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlmodel import col, select, update

from icebus.control.decide.lifecycle import LIVE_HOLDS, advance, advance_hold
from icebus.control.operations import hours
from icebus.control.store.live import IS_HELD
from icebus.control.store.tables import DeviceRow, HoldRow, ReservationRow
from icebus.control.transaction import Transaction
from icebus.schemas.errors import Forbidden, ReservationEnded, UnknownReservation
from icebus.schemas.ids import CONTROL
from icebus.schemas.operations.history import HistoryEvent
from icebus.schemas.operations.offers import OfferEnd, OfferEnded
from icebus.schemas.operations.reservations import (
    DeviceReplaced,
    Ended,
    EndReason,
    HoldState,
    ReservationState,
)
from icebus.schemas.wording import counted

WARNING = 60.0
"""Seconds before its end that the holder is told of it, at most."""

WARNING_SHARE = 0.1
"""The same for short reservations, as a share of what is left of them."""

WARNING_LEAST = 1.0
"""Seconds that the holder has to react in any case."""


def warning_time(now: datetime, until: datetime) -> datetime:
    """When the holder of a reservation that ends at ``until`` is told so."""
    left = (until - now).total_seconds()
    ahead = max(WARNING_LEAST, min(WARNING, WARNING_SHARE * left))
    return until - timedelta(seconds=ahead)


def enqueue(transaction: Transaction, reservation: ReservationRow) -> None:
    """Have a new reservation wait for its devices."""
    transaction.session.add(reservation)
    transaction.publish_document(reservation)
    transaction.falls_due(reservation.until)
    transaction.record_history(HistoryEvent.QUEUED, reservation, actor=reservation.user)
    transaction.log(
        f"{reservation.user} waits: {reservation.waits_for}", reservation=reservation.id
    )


def allocate(
    transaction: Transaction, reservation: ReservationRow, serials: Collection[str]
) -> None:
    """Give these devices to a reservation that waited, or is new; its time begins now."""
    reservation.state = advance(reservation.state, ReservationState.PREPARING)
    reservation.until = transaction.now + timedelta(seconds=reservation.duration)
    reservation.warn_at = warning_time(transaction.now, reservation.until)
    reservation.position = reservation.waits_for = reservation.estimate = None
    transaction.falls_due(reservation.warn_at)
    transaction.publish_document(reservation)
    transaction.session.add(reservation)
    transaction.session.flush()
    holds = _create_holds(transaction, reservation, serials, actor=reservation.user)
    end_with_hours(transaction, reservation.user)
    transaction.document(reservation, holds)
    transaction.log(
        f"{reservation.user} reserves {counted(len(serials), 'device')} of kind {reservation.kind}",
        reservation=reservation.id,
    )


def add_devices(
    transaction: Transaction, reservation: ReservationRow, serials: Collection[str]
) -> None:
    """Give more devices to a reservation that has some."""
    _forget_released(transaction, reservation, serials)
    _create_holds(transaction, reservation, serials, actor=reservation.user)
    end_with_hours(transaction, reservation.user)
    transaction.publish_document(reservation)
    transaction.log(
        f"{reservation.user} reserves {counted(len(serials), 'more device')}",
        reservation=reservation.id,
    )


def end_with_hours(transaction: Transaction, user: str) -> None:
    """Have what a user holds end when his hours of the week run out, if that is earlier."""
    for row in hours.shorten(transaction, user):
        row.warn_at = warning_time(transaction.now, row.until)
        transaction.falls_due(row.warn_at)
        transaction.publish_document(row)
        held = transaction.session.exec(
            select(DeviceRow)
            .join(HoldRow, col(HoldRow.serial) == col(DeviceRow.serial))
            .where(HoldRow.reservation == row.id, IS_HELD)
        )
        for device in held:
            transaction.publish_desired(device, row)


def replace_device(
    transaction: Transaction, reservation: ReservationRow, failed: HoldRow, serial: str
) -> None:
    """Give another device for one that failed."""
    release_devices(transaction, reservation, [failed], "replaced")
    _forget_released(transaction, reservation, [serial])
    _create_holds(transaction, reservation, [serial])
    transaction.publish_document(reservation)
    data = DeviceReplaced(reservation=reservation.id, serial=failed.serial, by=serial)
    transaction.send_event(reservation, "device_replaced", data, failed.serial)
    transaction.record_history(
        HistoryEvent.DEVICE_REPLACED,
        reservation,
        serial=failed.serial,
        worker=failed.worker,
        reason=f"by {serial}",
    )
    transaction.log(f"{serial} replaces {failed.serial}", reservation=reservation.id, serial=serial)


def _forget_released(
    transaction: Transaction, reservation: ReservationRow, serials: Collection[str]
) -> None:
    """Devices that a reservation gave back may come again: the history has both times."""
    before = (col(HoldRow.reservation) == reservation.id) & col(HoldRow.serial).in_(serials)
    transaction.session.flush()
    transaction.session.execute(delete(HoldRow).where(before))


def release_devices(
    transaction: Transaction,
    reservation: ReservationRow,
    holds: Iterable[HoldRow],
    reason: str,
    actor: str = CONTROL,
) -> None:
    """Take some devices back from a reservation."""
    live = [hold for hold in holds if hold.state in LIVE_HOLDS]
    hours.end(transaction, reservation.id, [hold.serial for hold in live])
    for hold in live:
        hold.state = advance_hold(hold.state, HoldState.RELEASED)
        transaction.record_history(
            HistoryEvent.RELEASED,
            reservation,
            actor=actor,
            serial=hold.serial,
            worker=hold.worker,
            reason=reason,
        )
    for device in increment_generation(transaction, [hold.serial for hold in live]):
        transaction.publish_desired(device, None)
    transaction.publish_document(reservation)
    transaction.request_scheduling()


def end_reservation(
    transaction: Transaction,
    reservation: ReservationRow,
    reason: EndReason,
    actor: str = CONTROL,
    explanation: str = "",
) -> Sequence[HoldRow]:
    """Take all devices back from a reservation, and end it.

    Returns:
        All of its holds.
    """
    query = select(HoldRow).where(HoldRow.reservation == reservation.id)
    holds = transaction.session.exec(query).all()
    end_offer(transaction, reservation, OfferEnd.ENDED, actor)
    reservation.state = advance(reservation.state, ReservationState.ENDING)
    release_devices(transaction, reservation, holds, reason.value, actor)
    reservation.state = advance(reservation.state, ReservationState.ENDED)
    reservation.reason = reason
    reservation.until = min(reservation.until, transaction.now)
    reservation.warn_at = reservation.absent_since = None
    reservation.position = reservation.waits_for = reservation.estimate = None
    transaction.send_event(
        reservation, "reservation_ended", Ended(reservation=reservation.id, reason=reason)
    )
    why = f"{reason.value}{f': {explanation}' if explanation else ''}"
    transaction.record_history(HistoryEvent.ENDED, reservation, actor=actor, reason=why)
    transaction.log(f"reservation of {reservation.user} ends: {why}", reservation=reservation.id)
    return holds


def activate_if_served(transaction: Transaction, reservations: Iterable[ReservationRow]) -> None:
    """Make those reservations active of which every device that is left serves."""
    preparing = {each.id: each for each in reservations if each.state is ReservationState.PREPARING}
    if not preparing:
        return
    transaction.session.flush()
    waiting = set(
        transaction.session.exec(
            select(HoldRow.reservation)
            .where(
                col(HoldRow.reservation).in_(preparing),
                col(HoldRow.state).not_in((HoldState.SERVING, HoldState.RELEASED)),
            )
            .distinct()
        )
    )
    for name, reservation in preparing.items():
        if name not in waiting:
            reservation.state = advance(reservation.state, ReservationState.ACTIVE)
            transaction.publish_document(reservation)


def find_live(transaction: Transaction, name: str) -> ReservationRow:
    """The reservation of that id, which is not over.

    Raises:
        UnknownReservation: there is none.
        ReservationEnded: it is over.
    """
    row = transaction.session.get(ReservationRow, name)
    if row is None:
        raise UnknownReservation(f"there is no reservation {name}", reservation=name)
    if row.state is ReservationState.ENDED:
        reason = row.reason.value if row.reason is not None else ""
        raise ReservationEnded(
            f"reservation {name} is over ({reason.replace('_', ' ')}); `icebus reserve` makes a "
            "new one",
            reservation=name,
            reason=reason,
        )
    return row


def find_own(transaction: Transaction, user: str, name: str) -> ReservationRow:
    """The reservation of that id, if it is this user's and not over.

    Raises:
        UnknownReservation: there is none.
        Forbidden: it is somebody else's.
        ReservationEnded: it is over.
    """
    row = transaction.session.get(ReservationRow, name)
    if row is not None and row.user != user:
        raise Forbidden(f"reservation {name} is {row.user}'s", reservation=name, user=row.user)
    return find_live(transaction, name)


def end_offer(
    transaction: Transaction, reservation: ReservationRow, reason: OfferEnd, actor: str = CONTROL
) -> None:
    """Have nobody accept a reservation any more that is offered; whoever has it keeps it."""
    to = reservation.offered_to
    if to is None:
        return
    reservation.offered_to = reservation.offered_until = None
    reservation.offered_incarnation = None
    transaction.publish_document(reservation)
    ended = OfferEnded(reservation=reservation.id, user=to, reason=reason)
    for user in (reservation.user, to):
        transaction.send_event(reservation, "offer_ended", ended, user=user)
    transaction.record_history(
        HistoryEvent.OFFER_ENDED, reservation, actor=actor, reason=f"{reason.value}, to {to}"
    )


def live_holds(transaction: Transaction, reservation: ReservationRow) -> Sequence[HoldRow]:
    """The devices that a reservation has."""
    query = select(HoldRow).where(HoldRow.reservation == reservation.id, IS_HELD)
    return transaction.session.exec(query).all()


def live_holds_by_serial(
    transaction: Transaction, serials: Collection[str]
) -> dict[str, tuple[HoldRow, ReservationRow]]:
    """The live holds of these devices, by serial."""
    query = (
        select(HoldRow, ReservationRow)
        .join(ReservationRow, col(ReservationRow.id) == col(HoldRow.reservation))
        .where(col(HoldRow.serial).in_(serials), IS_HELD)
    )
    return {
        hold.serial: (hold, reservation) for hold, reservation in transaction.session.exec(query)
    }


def increment_generation(transaction: Transaction, serials: Collection[str]) -> list[DeviceRow]:
    """Count up what is desired of these devices, which is about to change."""
    increment = (
        update(DeviceRow)
        .where(col(DeviceRow.serial).in_(serials))
        .values(generation=col(DeviceRow.generation) + 1)
        .returning(DeviceRow)
        .execution_options(populate_existing=True)
    )
    return sorted(
        transaction.session.execute(increment).scalars(), key=lambda device: device.serial
    )


def _create_holds(
    transaction: Transaction,
    reservation: ReservationRow,
    serials: Collection[str],
    actor: str = CONTROL,
) -> list[HoldRow]:
    holds = []
    hours.begin(transaction, reservation, serials)
    for device in increment_generation(transaction, serials):
        hold = HoldRow(
            reservation=reservation.id,
            serial=device.serial,
            worker=device.worker,
            state=HoldState.PREPARING,
        )
        transaction.session.add(hold)
        holds.append(hold)
        transaction.publish_desired(device, reservation)
        transaction.record_history(
            HistoryEvent.RESERVED,
            reservation,
            actor=actor,
            serial=device.serial,
            worker=device.worker,
        )
    return holds
