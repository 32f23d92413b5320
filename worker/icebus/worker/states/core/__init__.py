"""The states every device goes through, whatever it is reserved for."""

from icebus.worker.states._hosts import CoreHost
from icebus.worker.states.core.absent import Absent
from icebus.worker.states.core.broken import Broken, Quarantined, SetAside
from icebus.worker.states.core.flashing import Flashing
from icebus.worker.states.core.ready import Ready
from icebus.worker.states.core.rebooting import Rebooting
from icebus.worker.states.core.state import CoreState
from icebus.worker.states.core.testing import Testing

__all__ = [
    "Absent",
    "Broken",
    "CoreHost",
    "CoreState",
    "Flashing",
    "Quarantined",
    "Ready",
    "Rebooting",
    "SetAside",
    "Testing",
]
