"""Where iCEFARM has what clients are made of."""

from icebus.compat.icefarm._clients import BaseClient
from icebus.compat.icefarm._events import AbstractEventHandler, Event, EventServer, register

__all__ = ["AbstractEventHandler", "BaseClient", "Event", "EventServer", "register"]
