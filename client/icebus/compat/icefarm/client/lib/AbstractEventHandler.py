"""Where iCEFARM has what handlers are made of."""

from icebus.compat.icefarm._events import AbstractEventHandler, register

__all__ = ["AbstractEventHandler", "register"]
