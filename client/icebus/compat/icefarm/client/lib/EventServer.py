"""Where iCEFARM has what events come from."""

from icebus.compat.icefarm._events import Event, EventServer

__all__ = ["Event", "EventServer"]
