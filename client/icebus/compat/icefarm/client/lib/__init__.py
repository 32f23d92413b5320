"""Where iCEFARM has what clients are made of."""

from icebus.compat.icefarm.client.lib.AbstractEventHandler import AbstractEventHandler, register
from icebus.compat.icefarm.client.lib.BaseClient import BaseClient
from icebus.compat.icefarm.client.lib.EventServer import Event, EventServer

__all__ = ["AbstractEventHandler", "BaseClient", "Event", "EventServer", "register"]
