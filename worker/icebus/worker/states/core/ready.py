"""The board is proved and idle."""

from __future__ import annotations

from icebus.schemas.devices import DeviceState
from icebus.worker.states.framework import State


class Ready(State):
    """Waits for a reservation. What the board says is read and forgotten."""

    reported = DeviceState.READY
    commandable = True

    def on_desired(self) -> None:
        """Begin to serve."""
        self.device.settle()
