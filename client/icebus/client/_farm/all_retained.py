"""Knowing when all has come that the broker retains on some topics."""

from __future__ import annotations

import queue
from collections.abc import Iterable
from concurrent.futures import Future

from icebus.bus import Bus, Subscription, interruptible, wait_for
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import DeadlineExceeded
from icebus.schemas.ids import new_id
from icebus.schemas.topics import CLIENT_STATE

QUIET = 0.2
"""Seconds of silence after which an observer, who can't send a marker of its own, takes what has
come for all there is. A local broker delivers thousands of messages in that time."""


class AllRetained:
    """Waits until all has come that the broker retains. Not for use on the dispatcher.

    The broker answers a subscription with all that it retains; a message of our own, sent after,
    comes back behind them and so tells that they have all come.

    Args:
        bus: with the subscriptions.
        late: says what did not come, where that is so.
    """

    def __init__(self, bus: Bus, late: str) -> None:
        self._bus = bus
        self._late = late
        self._arrivals: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def note(self) -> None:
        """Something came. Observers' subscribers have to say so: silence is their marker."""
        self._arrivals.put(False)

    def wait(self, subscriptions: Iterable[Subscription], deadline: Deadline) -> None:
        """Wait until all has come that is retained for these.

        Raises:
            DeadlineExceeded: the broker did not answer in time.
            NotAuthorized: it knows this user no longer.
        """
        ids = {"user": self._bus.address.user, "client": new_id("marker-")}
        marker = self._bus.subscribe(CLIENT_STATE, lambda _: self._arrivals.put(True), **ids)
        try:
            for subscription in (*subscriptions, marker):
                wait_for(subscription.acknowledged, deadline, "the broker")
            # No client is called so, and nothing retained; subscribers hear of it all the same.
            sent = self._bus.clear(CLIENT_STATE(**ids))
            try:
                self._wait_for_marker(sent, deadline)
            except DeadlineExceeded as error:
                raise self._bus.problem or error from None
        finally:
            marker.cancel()

    def _wait_for_marker(self, sent: Future[None], deadline: Deadline) -> None:
        """Wait for the marker, or for silence where it was refused."""
        while True:
            quiet = sent.done() and sent.exception() is not None
            try:
                with interruptible(self.note):
                    told = self._arrivals.get(timeout=min(QUIET, deadline.remaining))
                if told:
                    return
            except queue.Empty:
                if quiet:
                    return
                if deadline.expired:
                    raise DeadlineExceeded(self._late) from None
