"""States: what a device does now. Everything that one needs to write a state of one's own."""

from icebus.schemas.files import File
from icebus.schemas.message import Args, Message
from icebus.worker.hardware.port import Port
from icebus.worker.states._framework import Event, Hold, Host, Reservable, State, reservable
from icebus.worker.states._methods import method

__all__ = [
    "Args",
    "Event",
    "File",
    "Hold",
    "Host",
    "Message",
    "Port",
    "Reservable",
    "State",
    "method",
    "reservable",
]
