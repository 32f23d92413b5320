"""Events about reservations that others offer to a user, which are not the user's own yet."""

from __future__ import annotations

from icebus.bus import Bus, Incoming
from icebus.client._connection.hook_runner import HookRunner, event_key
from icebus.schemas.calls import RawEvent, read_event
from icebus.schemas.ids import ALL_DEVICES, CONTROL
from icebus.schemas.message import Message, decode
from icebus.schemas.operations.offers import Offered, OfferEnded
from icebus.schemas.topics import EVENT

EVENTS: dict[str, type[Message]] = {"offered": Offered, "offer_ended": OfferEnded}


class OfferEvents:
    """Listens for offers to a user, from the moment that somebody wants to hear of them.

    Args:
        bus: of the client.
        hooks: to run.
    """

    def __init__(self, bus: Bus, hooks: HookRunner) -> None:
        self._bus = bus
        self._hooks = hooks
        self._listened: set[str] = set()

    def listen(self) -> None:
        """Subscribe to those events that there are hooks for by now."""
        for event in EVENTS:
            if event not in self._listened and self._hooks.has(event):
                self._listened.add(event)
                self._bus.subscribe(
                    EVENT,
                    self._on_event,
                    user=self._bus.address.user,
                    sender=CONTROL,
                    serial=ALL_DEVICES,
                    event=event,
                )

    def _on_event(self, incoming: Incoming) -> None:
        ids = incoming.ids
        data = read_event(EVENTS[ids["event"]], incoming.payload)
        told = decode(RawEvent, incoming.payload)
        key = event_key(ids["event"], ids["reservation"], ids["serial"], ids["sender"], told)
        self._hooks.run(ids["event"], data, key)
