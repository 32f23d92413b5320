"""States: what a device does now. Everything that one needs to write a state of one's own."""

from icebus.schemas.files import File
from icebus.schemas.message import Args, Message
from icebus.worker.hardware.port import Port
from icebus.worker.states._framework import Event, Reservable, State, reservable
from icebus.worker.states._hosts import Hold, Host
from icebus.worker.states._methods import method
from icebus.worker.states._mistakes import kind_failed
from icebus.worker.states._registry import installed_kinds
from icebus.worker.states.measuring import Measuring

__all__ = [
    "Args",
    "Event",
    "File",
    "Hold",
    "Host",
    "Measuring",
    "Message",
    "Port",
    "Reservable",
    "State",
    "installed_kinds",
    "kind_failed",
    "method",
    "reservable",
]
