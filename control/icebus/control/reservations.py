"""What happens to reservations: how devices are given, and how all of it ends."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlmodel import col, select, update

from icebus.control.lifecycle import LIVE_RESERVATIONS, advance, advance_hold
from icebus.control.tables import DeviceRow, HoldRow, ReservationRow
from icebus.control.work import Work
from icebus.schemas.reservations import Ended, EndReason, HoldState, ReservationState

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


def live() -> list[ReservationState]:
    """The states to look for in queries about reservations that are not over."""
    return list(LIVE_RESERVATIONS)


def begin(work: Work, reservation: ReservationRow, serials: Sequence[str]) -> list[HoldRow]:
    """Give these devices to a new reservation."""
    work.session.add(reservation)
    work.session.flush()
    holds = []
    for device in _next_generation(work, serials):
        hold = HoldRow(
            reservation=reservation.id,
            serial=device.serial,
            worker=device.worker,
            state=HoldState.PREPARING,
        )
        holds.append(hold)
        work.want(device, reservation)
    work.session.add_all(holds)
    work.change(reservation)
    work.note(
        f"{reservation.user} reserves {len(holds)} devices of kind {reservation.kind}",
        reservation=reservation.id,
    )
    return holds


def finish(work: Work, reservation: ReservationRow, reason: EndReason) -> Sequence[HoldRow]:
    """Let go of all devices of a reservation, and end it."""
    reservation.state = advance(reservation.state, ReservationState.ENDING)
    query = select(HoldRow).where(HoldRow.reservation == reservation.id)
    holds = work.session.exec(query).all()
    for hold in holds:
        hold.state = advance_hold(hold.state, HoldState.RELEASED)
    for device in _next_generation(work, [hold.serial for hold in holds]):
        work.want(device, None)
    reservation.state = advance(reservation.state, ReservationState.ENDED)
    reservation.reason = reason
    reservation.until = min(reservation.until, work.now)
    reservation.warn_at = reservation.orphaned_since = None
    work.change(reservation)
    work.tell(reservation, "reservation_ended", Ended(reservation=reservation.id, reason=reason))
    work.note(f"reservation of {reservation.user} ends: {reason}", reservation=reservation.id)
    return holds


def _next_generation(work: Work, serials: Sequence[str]) -> list[DeviceRow]:
    """Count up what is desired of these devices, which is about to be something else."""
    counted = (
        update(DeviceRow)
        .where(col(DeviceRow.serial).in_(serials))
        .values(generation=col(DeviceRow.generation) + 1)
        .returning(DeviceRow)
        .execution_options(populate_existing=True)
    )
    return sorted(work.session.execute(counted).scalars(), key=lambda device: device.serial)
