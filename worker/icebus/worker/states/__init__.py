"""States: what a device does now. Everything that one needs to write a state of one's own."""

# Before the decorator of the same name, which takes the package's place as an attribute here.
import icebus.worker.states.reservable  # noqa: F401
from icebus.schemas.files import File
from icebus.schemas.message import Args, Message
from icebus.worker.hardware.port import Port
from icebus.worker.states.framework import Event, Hold, Reservable, State, method, reservable

__all__ = [
    "Args",
    "Event",
    "File",
    "Hold",
    "Message",
    "Port",
    "Reservable",
    "State",
    "method",
    "reservable",
]
