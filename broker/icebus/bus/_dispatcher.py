"""The thread that runs what the network brings, one step after the other, and timers between."""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import queue
import threading
import time

from icebus.bus._admission.turns import Step, Turns

log = logging.getLogger(__name__)

MOST_WAITING = 32 << 20
"""Bytes of messages, each with its objects, that may wait here; the others wait at the broker."""

ROOM_TIMEOUT = 1.0
"""Seconds that reading waits for room at once: the broker has to be told that we live."""

STOP_DEADLINE = 5.0
"""Seconds a step may go on after the end was asked for."""


class Dispatcher:
    """Runs steps in the order they were given. A step must be quick; one that raises is logged.

    Args:
        name: of the thread.

    Attributes:
        users: steps of users, each of whom has a turn between two of the others.
    """

    def __init__(self, name: str) -> None:
        self._inbox: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._timers: list[tuple[float, int, Step]] = []
        self._wakes = math.inf
        self._order = itertools.count()
        self.users = Turns(self._inbox.put)
        self._taken = 0
        self._done = 0
        self._has_room = threading.Event()
        self._has_room.set()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Run what was given by now, then end; join unless called from a step."""
        self._inbox.put(None)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout=STOP_DEADLINE)

    def call_soon(self, step: Step) -> None:
        """Run ``step`` soon; from any thread."""
        self._inbox.put(step)

    def take(self, step: Step, size: int) -> None:
        """Run ``step``, which keeps so many bytes until then; for one thread that reads these."""
        self._taken += size

        def run() -> None:
            try:
                step()
            finally:
                self._done += size
                if not self._has_room.is_set() and self._taken - self._done < MOST_WAITING / 2:
                    self._has_room.set()

        self._inbox.put(run)

    def wait_for_room(self) -> None:
        """Return once less than so much waits that was taken, or after a second."""
        if self._taken - self._done < MOST_WAITING:
            return
        self._has_room.clear()
        if self._taken - self._done >= MOST_WAITING and not self._has_room.wait(ROOM_TIMEOUT):
            log.warning("%d bytes of messages wait to be handled", self._taken - self._done)

    def call_later(self, seconds: float, step: Step) -> None:
        """Run ``step`` in ``seconds``; from any thread."""
        due = time.monotonic() + seconds
        with self._lock:
            heapq.heappush(self._timers, (due, next(self._order), step))
            sooner = due < self._wakes
        if sooner:  # most are only in case nothing happens until then, and wake nobody
            self._inbox.put(_look_again)

    def _run(self) -> None:
        while (step := self._next()) is not None:
            try:
                step()
            except Exception:
                log.exception("a deferred step failed")

    def _next(self) -> Step | None:
        """The next step: a timer that is due goes first, or a busy inbox would starve it."""
        while True:
            with self._lock:
                self._wakes = self._timers[0][0] if self._timers else math.inf
                left = self._wakes - time.monotonic()
                if left <= 0:
                    return heapq.heappop(self._timers)[2]
            try:
                return self._inbox.get(timeout=None if math.isinf(left) else left)
            except queue.Empty:
                continue


def _look_again() -> None:
    """Does nothing; whoever runs it looks at the timers next."""
