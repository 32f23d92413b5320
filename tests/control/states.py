"""What controls say of themselves and their database, as anybody reads it."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import TYPE_CHECKING

from icebus.bus import Incoming
from icebus.schemas.components import ControlState, Presence
from icebus.schemas.database import DatabaseCause
from icebus.schemas.message import decode
from icebus.schemas.topics import CONTROL_STATE

if TYPE_CHECKING:
    from tests.control.fakes import FakeClient


class States:
    """The states of all controls, one after the other.

    Args:
        client: that hears them.
    """

    def __init__(self, client: FakeClient) -> None:
        self._heard: queue.SimpleQueue[ControlState] = queue.SimpleQueue()
        client.bus.subscribe(CONTROL_STATE, self._on_state)

    def _on_state(self, incoming: Incoming) -> None:
        if incoming.payload:
            self._heard.put(decode(ControlState, incoming.payload))

    def wait(self, wanted: Callable[[ControlState], bool]) -> ControlState:
        while True:
            state = self._heard.get(timeout=30)
            if wanted(state):
                return state

    def wait_away(self, *causes: DatabaseCause) -> None:
        self.wait(lambda state: state.database is not None and state.database.cause in causes)

    def wait_well(self) -> ControlState:
        return self.wait(lambda state: state.state is Presence.ONLINE and state.database is None)
