"""Where iCEFARM has its handlers."""

from icebus.compat.icefarm._events import (
    AvailabilityWaiter,
    DefaultBaseEventHandler,
    LoggerEventHandler,
    ReservationExtender,
)

__all__ = [
    "AvailabilityWaiter",
    "DefaultBaseEventHandler",
    "LoggerEventHandler",
    "ReservationExtender",
]
