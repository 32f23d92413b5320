"""Where iCEFARM has its handlers."""

from icebus.compat.icefarm._events import (
    DefaultBaseEventHandler,
    LoggerEventHandler,
    ReservationExtender,
)

__all__ = ["DefaultBaseEventHandler", "LoggerEventHandler", "ReservationExtender"]
