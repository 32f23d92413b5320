"""What happens to reservations: how devices are given and taken back, and how all of it ends."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlmodel import col, select, update

from icebus.control.decide.lifecycle import LIVE_HOLDS, advance, advance_hold
from icebus.control.store.tables import DeviceRow, HoldRow, ReservationRow
from icebus.control.store.transaction import Work
from icebus.schemas.history import HistoryEvent
from icebus.schemas.ids import CONTROL
from icebus.schemas.reservations import (
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


def warning(now: datetime, until: datetime) -> datetime:
    """When the holder of a reservation that ends at ``until`` is told so."""
    left = (until - now).total_seconds()
    ahead = max(WARNING_LEAST, min(WARNING, WARNING_SHARE * left))
    return until - timedelta(seconds=ahead)


def enqueue(work: Work, reservation: ReservationRow) -> None:
    """Have a new reservation wait for its devices."""
    work.session.add(reservation)
    work.change(reservation)
    work.record(HistoryEvent.QUEUED, reservation, actor=reservation.user)
    work.note(f"{reservation.user} waits: {reservation.waits_for}", reservation=reservation.id)


def give(work: Work, reservation: ReservationRow, serials: Collection[str]) -> None:
    """Give these devices to a reservation that waited, or is new; its time begins now."""
    reservation.state = advance(reservation.state, ReservationState.PREPARING)
    reservation.until = work.now + timedelta(seconds=reservation.duration)
    reservation.warn_at = warning(work.now, reservation.until)
    reservation.position = reservation.waits_for = reservation.estimate = None
    work.change(reservation)
    work.session.add(reservation)
    work.session.flush()
    holds = _hold(work, reservation, serials, actor=reservation.user)
    work.document(reservation, holds)
    work.note(
        f"{reservation.user} reserves {counted(len(serials), 'device')} of kind {reservation.kind}",
        reservation=reservation.id,
    )


def replace(work: Work, reservation: ReservationRow, failed: HoldRow, serial: str) -> None:
    """Give another device for one that failed."""
    release(work, reservation, [failed], "replaced")
    # Released before, it may be back: its old hold gives way, the history has both.
    again = (col(HoldRow.reservation) == reservation.id) & (col(HoldRow.serial) == serial)
    work.session.flush()
    work.session.execute(delete(HoldRow).where(again))
    _hold(work, reservation, [serial])
    work.change(reservation)
    data = DeviceReplaced(reservation=reservation.id, serial=failed.serial, by=serial)
    work.tell(reservation, "device_replaced", data, failed.serial)
    work.record(
        HistoryEvent.DEVICE_REPLACED,
        reservation,
        serial=failed.serial,
        worker=failed.worker,
        reason=f"by {serial}",
    )
    work.note(f"{serial} replaces {failed.serial}", reservation=reservation.id, serial=serial)


def release(
    work: Work,
    reservation: ReservationRow,
    holds: Iterable[HoldRow],
    reason: str,
    actor: str = CONTROL,
) -> None:
    """Let go of some devices of a reservation."""
    live = [hold for hold in holds if hold.state in LIVE_HOLDS]
    for hold in live:
        hold.state = advance_hold(hold.state, HoldState.RELEASED)
        work.record(
            HistoryEvent.RELEASED,
            reservation,
            actor=actor,
            serial=hold.serial,
            worker=hold.worker,
            reason=reason,
        )
    for device in next_generation(work, [hold.serial for hold in live]):
        work.want(device, None)
    work.change(reservation)
    work.stir()


def finish(
    work: Work,
    reservation: ReservationRow,
    reason: EndReason,
    actor: str = CONTROL,
    explanation: str = "",
) -> Sequence[HoldRow]:
    """Let go of all devices of a reservation, and end it."""
    query = select(HoldRow).where(HoldRow.reservation == reservation.id)
    holds = work.session.exec(query).all()
    reservation.state = advance(reservation.state, ReservationState.ENDING)
    release(work, reservation, holds, reason.value, actor)
    reservation.state = advance(reservation.state, ReservationState.ENDED)
    reservation.reason = reason
    reservation.until = min(reservation.until, work.now)
    reservation.warn_at = reservation.orphaned_since = None
    reservation.position = reservation.waits_for = reservation.estimate = None
    work.tell(reservation, "reservation_ended", Ended(reservation=reservation.id, reason=reason))
    why = f"{reason.value}{f': {explanation}' if explanation else ''}"
    work.record(HistoryEvent.ENDED, reservation, actor=actor, reason=why)
    work.note(f"reservation of {reservation.user} ends: {why}", reservation=reservation.id)
    return holds


def activate(work: Work, reservations: Iterable[ReservationRow]) -> None:
    """Make those active of which every device that is left serves."""
    preparing = {each.id: each for each in reservations if each.state is ReservationState.PREPARING}
    if not preparing:
        return
    work.session.flush()
    waiting = set(
        work.session.exec(
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
            work.change(reservation)


def next_generation(work: Work, serials: Collection[str]) -> list[DeviceRow]:
    """Count up what is desired of these devices, which is about to be something else."""
    counted = (
        update(DeviceRow)
        .where(col(DeviceRow.serial).in_(serials))
        .values(generation=col(DeviceRow.generation) + 1)
        .returning(DeviceRow)
        .execution_options(populate_existing=True)
    )
    return sorted(work.session.execute(counted).scalars(), key=lambda device: device.serial)


def _hold(
    work: Work, reservation: ReservationRow, serials: Collection[str], actor: str = CONTROL
) -> list[HoldRow]:
    holds = []
    for device in next_generation(work, serials):
        hold = HoldRow(
            reservation=reservation.id,
            serial=device.serial,
            worker=device.worker,
            state=HoldState.PREPARING,
        )
        work.session.add(hold)
        holds.append(hold)
        work.want(device, reservation)
        work.record(
            HistoryEvent.RESERVED,
            reservation,
            actor=actor,
            serial=device.serial,
            worker=device.worker,
        )
    return holds
