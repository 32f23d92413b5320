"""Saying that we are there, and saying it again when a late will claims otherwise."""

from __future__ import annotations

import logging
import threading
import time

from pydantic import BaseModel

from icebus.bus._bus import Bus
from icebus.bus._messages import Incoming
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.liveness import SILENT_AFTER
from icebus.schemas.message import decode
from icebus.schemas.topics import Topic

log = logging.getLogger(__name__)

CORRECTION_INTERVAL = 1.0
"""Seconds between corrections: two components of one name would otherwise correct each other as
fast as the broker can carry it."""


class Presence:
    """Holds our retained state topic to what we last said.

    A will that fires late (the broker noticed a dead connection after we had made a new one, or
    after its own restart) would leave us declared dead; so we watch our own topic and correct it.

    Args:
        bus: to speak on.
        topic: the family our state belongs to.
        every: seconds after which to say it again and again, so that who dies together with the
            broker, which then has no will to tell of, is missed; None to say it once.
        ids: which one of it is ours.
    """

    def __init__(self, bus: Bus, topic: Topic, *, every: float | None = None, **ids: str) -> None:
        self._bus = bus
        self._every = every
        self._address = topic(**ids)
        # Held while publishing, which only enqueues: a repetition must not overtake what is said
        # anew, or the broker would keep the older word for ever.
        self._lock = threading.Lock()
        self._said: BaseModel | None = None
        self._stopped = False
        self._correctable_at = 0.0
        self._correcting = False
        self._subscription = bus.subscribe(topic, self._on_state, **ids)
        bus.on_connected(self._repeat)
        if every is not None:
            bus.call_later(every, self._again)

    def say(self, state: BaseModel) -> None:
        """Publish ``state``, and hold to it."""
        with self._lock:
            self._said = state
            self._publish(state)

    def stop(self) -> None:
        """Hold to nothing any more: what is said next is the farewell."""
        with self._lock:
            self._said = None
            self._stopped = True
        self._subscription.cancel()

    def _repeat(self) -> None:
        with self._lock:
            if self._said is not None:
                self._publish(self._said)

    def _publish(self, state: BaseModel) -> None:
        expiry = None if self._every is None else SILENT_AFTER * self._every
        self._bus.publish(self._address, state, retain=True, expiry=expiry)

    def _again(self) -> None:
        if self._stopped or self._every is None:
            return
        # Without a broker it would only pile up; it is said when there is one.
        if self._bus.connected:
            self._repeat()
        self._bus.call_later(self._every, self._again)

    def _on_state(self, incoming: Incoming) -> None:
        now = time.monotonic()
        with self._lock:
            said = self._said
            if said is None or self._correcting or _same_session(said, incoming.payload):
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
        log.warning("correcting what somebody said of us on %s", self._address)
        self._repeat()


def _same_session(said: BaseModel, payload: bytes) -> bool:
    """Whether ``payload`` is our own word, if an older one, rather than a will or a namesake's."""
    try:
        heard = decode(type(said), payload)
    except InvalidRequest:
        return False
    mine, theirs = said.model_dump(), heard.model_dump()
    return bool(mine["session"] == theirs["session"] and theirs["state"] != "lost")
