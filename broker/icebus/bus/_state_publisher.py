"""Publishing our own state, and publishing it again when something else stands in its place."""

from __future__ import annotations

import logging
import threading
import time

from pydantic import BaseModel

from icebus.bus._bus import Bus
from icebus.bus._messages import Incoming
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.message import decode
from icebus.schemas.topics import Topic

log = logging.getLogger(__name__)

CORRECTION_INTERVAL = 1.0
"""Seconds between corrections: two components of one name would otherwise correct each other as
fast as the broker can carry it."""


class StatePublisher:
    """Keeps our retained state topic at the state that we published last.

    A will that the broker publishes late (it noticed a dead connection after we had made a new one,
    or after its own restart) would leave us declared dead; so we subscribe to our own topic and
    correct it. Only what another run says that lives is worth a warning: somebody has our name.

    Args:
        bus: to publish on.
        topic: the family our state belongs to.
        interval: seconds after which to publish it again and again, so that who dies together with
            the broker, which then has no will to publish, is missed; None to publish it once.
        ids: which one of it is ours.
    """

    def __init__(
        self, bus: Bus, topic: Topic, *, interval: float | None = None, **ids: str
    ) -> None:
        self._bus = bus
        self._interval = interval
        self._topic = topic(**ids)
        # Held while publishing, which only enqueues: a repetition must not overtake a newer state,
        # or the broker would keep the older one for ever.
        self._lock = threading.Lock()
        self._state: BaseModel | None = None
        self._closed = False
        self._correctable_at = 0.0
        self._correcting = False
        self._others = False
        self._subscription = bus.subscribe(topic, self._on_state, **ids)
        bus.on_connected(self._repeat)
        if interval is not None:
            bus.call_later(interval, self._repeat_regularly)

    def publish(self, state: BaseModel) -> None:
        """Publish ``state``, now and whenever the broker has another."""
        with self._lock:
            if not self._closed:
                self._state = state
                self._publish(state)

    def close(self, last: BaseModel) -> None:
        """Publish the last state, if the broker is there, and correct it no more."""
        self._subscription.cancel()
        with self._lock:
            self._state = None
            self._closed = True
            # Without a broker it would come after our will, when nobody asks any more.
            if self._bus.connected:
                self._publish(last)

    def _repeat(self) -> None:
        with self._lock:
            if self._state is not None:
                self._publish(self._state)

    def _publish(self, state: BaseModel) -> None:
        self._bus.publish(self._topic, state, interval=self._interval)

    def _repeat_regularly(self) -> None:
        if self._closed or self._interval is None:
            return
        # Without a broker they would only pile up; on connecting it is published anyway.
        if self._bus.connected:
            self._repeat()
        self._bus.call_later(self._interval, self._repeat_regularly)

    def _on_state(self, incoming: Incoming) -> None:
        now = time.monotonic()
        with self._lock:
            state = self._state
            if state is None or _same_session(state, incoming.payload):
                return
            self._others |= not incoming.retained and not _is_last_will(state, incoming.payload)
            if self._correcting:
                return
            self._correcting = True
            pause = max(0.0, self._correctable_at - now)
            self._correctable_at = now + pause + CORRECTION_INTERVAL
        if pause:
            self._bus.call_later(pause, self._correct)
        else:
            self._correct()

    def _correct(self) -> None:
        with self._lock:
            self._correcting = False
            others, self._others = self._others, False
        if others:
            log.warning("correcting what somebody else published on %s", self._topic)
        else:
            # From before we were here, or published for one of our runs that the broker missed.
            log.debug("publishing anew what the broker keeps on %s", self._topic)
        self._repeat()


def _is_last_will(ours: BaseModel, payload: bytes) -> bool:
    """Whether it says that a run is lost, which only the broker says, for one that it misses."""
    try:
        return bool(decode(type(ours), payload).model_dump()["state"] == "lost")
    except InvalidRequest:
        return False


def _same_session(ours: BaseModel, payload: bytes) -> bool:
    """Whether ``payload`` is a state of ours, if an older one, and no will or namesake's."""
    try:
        heard = decode(type(ours), payload)
    except InvalidRequest:
        return False
    mine, theirs = ours.model_dump(), heard.model_dump()
    return bool(mine["session"] == theirs["session"] and theirs["state"] != "lost")
