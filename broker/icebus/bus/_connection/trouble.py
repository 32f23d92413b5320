"""What is the matter with a connection: kept for who waits, and told once for each cause."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from icebus.bus._connection import reasons
from icebus.schemas.errors import IcebusError

log = logging.getLogger(__name__)

LOOK_INTERVAL = 30.0
"""Seconds between looks at why connections end before they are answered."""

Listener = Callable[[IcebusError], None]


class Trouble:
    """Why there is no connection.

    Args:
        tell: has a listener called soon, from any thread.

    Attributes:
        answered: set once there is anything to look at: the broker took us in, refused us, or ended
            the connection.
        settled: set once waiting makes no difference: we were taken in, or never will be.
        error: the last cause; None while connected, and before anything went wrong.
        refusal: what the broker said when it did not take us in; None once it has.
    """

    def __init__(self, tell: Callable[[Callable[[], None]], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []
        self._told: set[reasons.Cause | None] = set()
        self._look_again = 0.0
        self.answered = threading.Event()
        self.settled = threading.Event()
        self.taken_in = False
        self.error: IcebusError | None = None
        self.refusal: IcebusError | None = None

    @property
    def lasting(self) -> IcebusError | None:
        """What has ended the connection for good, as far as we can do anything about it."""
        error = self.error
        return error if error is not None and reasons.cause_of(error) in reasons.LASTING else None

    def listen(self, listener: Listener) -> None:
        """Have ``listener`` called for every new cause, until the broker takes us in again."""
        with self._lock:
            self._listeners.append(listener)
            error = self.error
        if error is not None:
            self._tell(lambda: listener(error))

    def happened(self, error: IcebusError) -> None:
        """There is no connection, for this reason."""
        cause = reasons.cause_of(error)
        with self._lock:
            # What lasts is not made to look better by how the next attempt fails.
            if cause not in reasons.LASTING and self.lasting is not None:
                return
            self.error = error
            new = cause not in self._told
            self._told.add(cause)
            listeners = list(self._listeners) if new else []
        if new:
            log.warning("%s", error.message)
        for listener in listeners:
            self._tell(lambda listener=listener: listener(error))  # type: ignore[misc]
        if cause in reasons.LASTING:
            self.settled.set()
        self.answered.set()

    def investigate(self, look: Callable[[], IcebusError | None]) -> None:
        """A connection ended before the broker answered: find out why, on a thread that is brief.

        Only once in a while, and only after a connection that stood: the first is looked at by
        whoever waits for it.

        Args:
            look: gives the reason, if one is found, within seconds.
        """
        at = time.monotonic()
        with self._lock:
            if not self.taken_in or self.refusal is not None or at < self._look_again:
                return
            self._look_again = at + LOOK_INTERVAL

        def find() -> None:
            if (found := look()) is not None and self.error is not None:
                self.happened(found)

        threading.Thread(target=find, name="look-at-broker", daemon=True).start()

    def refused(self, error: IcebusError) -> None:
        """The broker answered, and did not take us in."""
        self.refusal = error
        self.happened(error)

    def over(self) -> None:
        """The broker has taken us in."""
        with self._lock:
            self.error = self.refusal = None
            self.taken_in = True
            self._told.clear()
            self._look_again = 0.0
        self.settled.set()
        self.answered.set()
