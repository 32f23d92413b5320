"""Whose fault an error is: the board's, so that another may try, or the bitstream's."""

from __future__ import annotations

from icebus.schemas.components import WorkerPhase
from icebus.schemas.errors import (
    BrokerUnavailable,
    DeadlineExceeded,
    DeviceFailed,
    DeviceNotHeld,
    DeviceNotServing,
    Forbidden,
    IcebusError,
    InternalError,
    JournalUnavailable,
    MeasurementFailed,
    MeasurementUnsupported,
    NotAuthorized,
    ReservationEnded,
    UnknownDevice,
    UnknownMethod,
    UnknownReservation,
    WorkerLost,
)

UNSURE = (BrokerUnavailable, DeadlineExceeded, DeviceFailed)
"""Ends of a call that leave open whether the board had taken what it was sent."""

LASTING = (
    Forbidden,
    MeasurementUnsupported,
    NotAuthorized,
    ReservationEnded,
    UnknownMethod,
    UnknownReservation,
)
"""Answers after which a board is of no use for as long as the run lasts."""

BOARD_ERRORS = (
    *UNSURE,
    *LASTING,
    DeviceNotHeld,
    DeviceNotServing,
    JournalUnavailable,
    UnknownDevice,
)
"""Ends of a call after which there is no use in asking that board again, at least not now."""

OTHERS_MAY_TRY = (MeasurementFailed, MeasurementUnsupported, DeadlineExceeded, InternalError)
"""Failures of an evaluation that another board may well measure."""


def means_board_is_lost(error: IcebusError) -> bool:
    """Whether a failed evaluation says that its board serves no more: the rest fails too."""
    return isinstance(error, (DeviceFailed, DeviceNotHeld, DeviceNotServing))


def taken_away(serial: str) -> DeviceNotHeld:
    """The error for a board that a reservation which lives has no more.

    Its worker can't tell that from the end of the reservation.
    """
    return DeviceNotHeld(
        f"device {serial} was taken from the reservation before this was measured; "
        "`icebus devices` shows it",
        serial=serial,
    )


def may_be_the_boards_fault(error: IcebusError) -> bool:
    """Whether another board may well measure what failed with ``error`` on this one.

    All else is about the bitstream, and final: it would fail so anywhere.
    """
    return isinstance(
        error, (MeasurementFailed, MeasurementUnsupported, DeadlineExceeded, InternalError)
    )


def may_be_back_soon(error: IcebusError) -> bool:
    """Whether a worker was lost of which nobody knows that it is gone for good."""
    known = (WorkerPhase.OFFLINE, "restarted")
    return isinstance(error, WorkerLost) and error.details.get("how") not in known
