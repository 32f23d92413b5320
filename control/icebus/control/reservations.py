"""What happens to reservations: how devices are given, and how all of it ends."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlmodel import col, select

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


def begin(work: Work, reservation: ReservationRow, serials: Sequence[str]) -> None:
    """Give these devices to a new reservation."""
    work.session.add(reservation)
    work.session.flush()
    devices = work.session.exec(select(DeviceRow).where(col(DeviceRow.serial).in_(serials))).all()
    for device in devices:
        device.generation += 1
        work.session.add(
            HoldRow(
                reservation=reservation.id,
                serial=device.serial,
                worker=device.worker,
                state=HoldState.PREPARING,
            )
        )
        work.want(device, reservation)
    work.change(reservation)


def finish(work: Work, reservation: ReservationRow, reason: EndReason) -> None:
    """Let go of all devices of a reservation, and end it."""
    reservation.state = advance(reservation.state, ReservationState.ENDING)
    held = work.session.exec(
        select(HoldRow, DeviceRow)
        .join(DeviceRow, col(DeviceRow.serial) == col(HoldRow.serial))
        .where(HoldRow.reservation == reservation.id)
    ).all()
    for hold, device in held:
        hold.state = advance_hold(hold.state, HoldState.RELEASED)
        device.generation += 1
        work.want(device, None)
    reservation.state = advance(reservation.state, ReservationState.ENDED)
    reservation.reason = reason
    reservation.until = min(reservation.until, work.now)
    reservation.warn_at = reservation.orphaned_since = None
    work.change(reservation)
    work.tell(reservation, "reservation_ended", Ended(reservation=reservation.id, reason=reason))
