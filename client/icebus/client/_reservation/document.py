"""What a reservation's document, and events about it, say of its devices. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from icebus.schemas.errors import (
    DeviceFailed,
    DeviceNotHeld,
    DeviceUnplugged,
    ErrorInfo,
    IcebusError,
    ReservationEnded,
)
from icebus.schemas.ids import meant
from icebus.schemas.operations.reservations import (
    DeviceFailedEvent,
    EndReason,
    HeldDevice,
    HoldState,
    Reservation,
    ReservationState,
)

OVER = frozenset({ReservationState.ENDING, ReservationState.ENDED})
"""States after which a reservation is of no use."""

UNTOLD = "over"
"""The reason of an end whose reason passed by before we listened."""


def held(document: Reservation) -> list[HeldDevice]:
    """The devices it has: not those that it let go of or that others took the place of.

    Of one that is over, all that it ever had.
    """
    over = document.state in OVER
    return [d for d in document.devices if over or d.state is not HoldState.RELEASED]


def meant_devices(document: Reservation, serials: Iterable[str]) -> list[str]:
    """Those of its devices that serials mean, in whatever case; others stay as they are."""
    return meant(serials, (device.serial for device in document.devices))


def serving(document: Reservation) -> list[str]:
    """The devices that are ready for calls."""
    return [d.serial for d in document.devices if d.state is HoldState.SERVING]


def preparing(document: Reservation) -> list[str]:
    """The devices it has that are not ready for calls."""
    return [d.serial for d in held(document) if d.state is not HoldState.SERVING]


def is_queued(document: Reservation) -> bool:
    """Whether it has no devices yet."""
    return document.state is ReservationState.QUEUED


def device_errors(document: Reservation) -> dict[str, IcebusError]:
    """The devices of a reservation that lives which can't be used, and why."""
    if document.state in OVER:
        return {}
    return {
        device.serial: error
        for device in document.devices
        if (error := _error_of(device, document.id)) is not None
    }


def _error_of(device: HeldDevice, reservation: str) -> IcebusError | None:
    match device.state:
        case HoldState.FAILED:
            return DeviceFailed(
                f"device {device.serial} failed: {device.reason or 'no reason was told'}; "
                "`icebus devices` shows it",
                serial=device.serial,
                reason=device.reason,
            )
        case HoldState.RELEASED:
            return DeviceNotHeld(
                f"reservation {reservation} has let go of device {device.serial}"
                f"{f': {device.reason}' if device.reason else ''}; `icebus reservations` lists "
                "what it holds",
                serial=device.serial,
                reason=device.reason,
            )
    return None


def moved_errors(before: Reservation, after: Reservation) -> dict[str, IcebusError]:
    """The devices that another worker owns now: what the former had accepted is lost."""
    owners = {device.serial: device.worker for device in before.devices}
    return {
        device.serial: DeviceUnplugged(
            f"device {device.serial} was moved to worker {device.worker} with evaluations "
            "outstanding; evaluate them again",
            serial=device.serial,
            reason="moved",
        )
        for device in after.devices
        if owners.get(device.serial, device.worker) != device.worker
    }


def newly_serving(before: Reservation, after: Reservation) -> list[str]:
    """The devices that serve now and did not before, at least not there."""
    served = {d.serial: d.worker for d in before.devices if d.state is HoldState.SERVING}
    return [
        device.serial
        for device in after.devices
        if device.state is HoldState.SERVING and served.get(device.serial) != device.worker
    ]


def error_of_event(event: DeviceFailedEvent) -> IcebusError:
    """The error that a device's evaluations end with."""
    return IcebusError.from_info(
        ErrorInfo(
            code=event.code,
            message=f"device {event.serial} failed: {event.reason}",
            details={"serial": event.serial, "reason": event.reason},
        )
    )


def ended_error(reservation: str, reason: EndReason | None) -> ReservationEnded:
    """The error for using a reservation that is over."""
    why = UNTOLD if reason is None else reason.value
    return ReservationEnded(
        f"reservation {reservation} has ended ({why.replace('_', ' ')}); reserve again",
        reservation=reservation,
        reason=why,
    )


def over_error(document: Reservation, user: str) -> ReservationEnded | None:
    """The error for using a reservation that is over for a user; None while it is not."""
    if document.user == user:
        return ended_error(document.id, document.reason) if document.state in OVER else None
    return ReservationEnded(
        f"reservation {document.id} was given to {document.user}; reserve again",
        reservation=document.id,
        reason="transferred",
        user=document.user,
    )
