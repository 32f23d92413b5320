"""The event that devices can be reserved which could not be before."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from icebus.bus import Bus, Incoming
from icebus.client._connection.hook_runner import HookRunner
from icebus.client._farm import retained as retained
from icebus.client._farm.survey import EVERYTHING, Survey
from icebus.schemas.errors import UnknownKind
from icebus.schemas.topics import CONTROL_HISTORY, Topic

EVENT = "devices_available"

GATHER = 0.5
"""Seconds from a change until it is told: a rack that comes, or a reservation that ends, brings
many devices at once."""


@dataclass(frozen=True)
class DevicesAvailable:
    """Devices can be reserved for a client's kind.

    Attributes:
        serials: those that could not be when it was last told; at first, all.
        available: all that can be now.
    """

    serials: list[str]
    available: list[str]


class AvailableDevices:
    """Follows what the farm retains, from the moment that somebody wants to hear of it.

    Args:
        bus: of the client.
        hooks: to run.
        kind: that devices are to be available for.
    """

    def __init__(self, bus: Bus, hooks: HookRunner, kind: str) -> None:
        self._bus = bus
        self._hooks = hooks
        self._kind = kind
        self._farm = Survey()
        self._listens = False
        self._due = False
        self._known: frozenset[str] = frozenset()

    def listen(self) -> None:
        """Subscribe, if there is a hook for it by now."""
        if self._listens or not self._kind or not self._hooks.has(EVENT):
            return
        self._listens = True
        for topic in EVERYTHING:
            if topic is not CONTROL_HISTORY:
                self._bus.subscribe(topic, partial(self._on_change, topic))

    # --- on the dispatcher --------------------------------------------------------------------

    def _on_change(self, topic: Topic, incoming: Incoming) -> None:
        self._farm.take(topic, incoming.ids, incoming.payload)
        if not self._due:
            self._due = True
            self._bus.call_later(GATHER, self._look)

    def _look(self) -> None:
        self._due = False
        try:
            available = retained.available(self._farm, self._kind, None)
        except UnknownKind:
            available = []  # its worker is away, or yet to come
        before, self._known = self._known, frozenset(available)
        if new := [serial for serial in available if serial not in before]:
            self._hooks.run(EVENT, DevicesAvailable(new, available), (EVENT, object()))
