"""Runs actions when they are due, on the thread that waits."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

Action = Callable[[], object]

POLL_INTERVAL = 0.2
"""Seconds between two polls, at most."""


class Timers:
    """Actions and when they are due.

    Args:
        poll: is called again and again while somebody waits.
    """

    def __init__(self, poll: Callable[[], None]) -> None:
        self._poll = poll
        self._due: list[tuple[float, int, Action]] = []
        self._order = itertools.count()
        self._pause = threading.Event()

    def at(self, moment: float, action: Action) -> None:
        """Run an action at a moment of the monotonic clock."""
        heapq.heappush(self._due, (moment, next(self._order), action))

    def after(self, seconds: float, action: Action) -> None:
        """Run an action so many seconds from now."""
        self.at(time.monotonic() + seconds, action)

    def wait(self, seconds: float) -> None:
        """Wait, and run what falls due."""
        self._run_until(time.monotonic() + seconds)

    def run_all(self, moment: float) -> None:
        """Wait until then, and on until no action is left."""
        self._run_until(moment)
        while self._due:
            self._run_until(self._due[0][0])

    def _run_until(self, moment: float) -> None:
        while True:
            self._poll()
            now = time.monotonic()
            if self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()
                continue
            if now >= moment:
                return
            due = self._due[0][0] if self._due else moment
            self._pause.wait(max(0.0, min(due, moment, now + POLL_INTERVAL) - now))
