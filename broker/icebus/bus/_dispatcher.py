"""The thread that runs what the network brings, one step after the other, and timers between."""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import queue
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

Step = Callable[[], None]

STOP_DEADLINE = 5.0
"""Seconds a step may go on after the end was asked for."""


class Dispatcher:
    """Runs steps in the order they were given. A step must be quick; one that raises is logged.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._inbox: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._timers: list[tuple[float, int, Step]] = []
        self._wakes = math.inf
        self._order = itertools.count()
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
