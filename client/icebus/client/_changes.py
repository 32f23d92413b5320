"""What changes on a farm, as it changes: devices, reservations, workers, controls, alarms."""

from __future__ import annotations

import logging
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from icebus.bus import Incoming, Subscription, check_role, wait_for
from icebus.client._connection.connection import Connection
from icebus.client._connection.stream import Stream
from icebus.schemas.components import ControlState, WorkerState
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceClaim, DeviceReport
from icebus.schemas.message import decode
from icebus.schemas.operations.reservations import Reservation
from icebus.schemas.topics import (
    CLAIM,
    CONTROL_STATE,
    DEVICE,
    RESERVATION,
    WORKER_STATE,
    Role,
    Topic,
)

log = logging.getLogger(__name__)

WATCHED: tuple[tuple[Topic, str], ...] = (
    (CONTROL_STATE, "control"),
    (WORKER_STATE, "worker"),
    (DEVICE, "device"),
    (CLAIM, "claim"),
    (RESERVATION, "reservation"),
)
"""What is told of, and what it is called."""

MOST_KNOWN = 50_000
"""Things that are remembered; a farm of a thousand boards has some 2,000. The oldest make way."""


@dataclass(frozen=True)
class Change:
    """How something on the farm stands now.

    Attributes:
        what: ``device``, ``reservation``, ``worker``, ``control``, or ``claim``: an alarm that
            several workers say they have a device.
        id: the device's serial, or the id of the reservation, worker or control.
        worker: that reports a device; empty of anything else.
        now: what is told of it; None when it is gone.
    """

    what: str
    id: str
    worker: str
    now: DeviceReport | Reservation | WorkerState | ControlState | DeviceClaim | None


class Changes(Stream):
    """Changes as they come, after how all stands at first. An iterator without an end: close it.

    Of what changes quicker than it is read, the latest is told. What goes while the broker is away
    is not told.

    Args:
        connection: of the client.
        deadline: for the broker to take the subscriptions.

    Raises:
        WrongRole: who asks may not read the farm.
        DeadlineExceeded: the broker did not answer.
    """

    def __init__(self, connection: Connection, deadline: Deadline) -> None:
        super().__init__(connection)
        check_role(connection.bus, Role.OBSERVER, "watching the farm", deadline)
        self._waiting: OrderedDict[str, Change] = OrderedDict()
        self._known: OrderedDict[str, Any] = OrderedDict()
        self._open = True
        self._following = ExitStack()
        self._subscriptions: list[Subscription] = []
        try:
            for topic, what in WATCHED:
                handler = partial(self._on_message, topic, what)
                self._subscriptions.append(connection.bus.subscribe(topic, handler))
            for subscription in self._subscriptions:
                wait_for(subscription.acknowledged, deadline, "the broker")
            self._following.enter_context(connection.farm_watch.waiting())
        except BaseException:
            self.close()
            raise

    def __next__(self) -> Change:
        """The next change, waited for."""
        with self._changed:
            while not self._waiting:
                if not self._open:
                    raise StopIteration
                self._wait_for_more()
            return self._waiting.popitem(last=False)[1]

    def close(self) -> None:
        """Watch no more: what waits is told still."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        for subscription in self._subscriptions:
            subscription.cancel()
        self._following.close()

    # --- the dispatcher -------------------------------------------------------------------------

    def _on_message(self, topic: Topic, what: str, incoming: Incoming) -> None:
        now: Any = None
        if incoming.payload and topic.model is not None:
            now = decode(topic.model, incoming.payload)
        worker = incoming.ids["worker"] if topic is DEVICE else ""
        *_, id_ = incoming.ids.values()
        change = Change(what, id_, worker, now)
        with self._changed:
            # A broker that comes back tells all that it retains once more.
            if self._known.get(incoming.topic) == now:
                return
            if now is None:
                del self._known[incoming.topic]
            else:
                self._known[incoming.topic] = now
            self._waiting[incoming.topic] = change
            if len(self._known) > MOST_KNOWN or len(self._waiting) > MOST_KNOWN:
                self._make_room()
            self._changed.notify_all()

    def _make_room(self) -> None:
        for kept in (self._known, self._waiting):
            while len(kept) > MOST_KNOWN:
                kept.popitem(last=False)
        log.warning("the farm tells of more than %s things: the oldest are left out", MOST_KNOWN)
