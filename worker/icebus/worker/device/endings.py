"""What outstanding work of a device ends with, when the device does something else."""

from __future__ import annotations

from icebus.schemas.errors import DeviceFailed, DeviceUnplugged, ReservationEnded, WorkerLost


def failed(device: str, reason: str) -> DeviceFailed:
    """The device did not do what it should, or was told to do something else."""
    return DeviceFailed(f"device {device} failed: {reason}", reason=reason, serial=device)


def unplugged(device: str, reason: str) -> DeviceUnplugged:
    """Its board is gone."""
    return DeviceUnplugged(
        f"device {device} was unplugged; plug it in again or release it",
        reason=reason,
        serial=device,
    )


def stopped(device: str) -> WorkerLost:
    """Its worker is being stopped."""
    return WorkerLost("the worker was stopped", serial=device)


def released() -> ReservationEnded:
    """Nobody is served any more, or somebody else."""
    return ReservationEnded(
        "the reservation ended before this was measured; extend it in time, or reserve again"
    )
