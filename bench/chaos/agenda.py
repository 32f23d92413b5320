"""What is to be done in a run of chaos, and when."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

Action = Callable[[], object]

WATCH = 0.2
"""Seconds between two looks at what happens meanwhile, at most."""


class Agenda:
    """Does what is due while time passes, all on the thread that lets it pass.

    Args:
        watch: is called again and again meanwhile.
    """

    def __init__(self, watch: Callable[[], None]) -> None:
        self._watch = watch
        self._due: list[tuple[float, int, Action]] = []
        self._order = itertools.count()
        self._pause = threading.Event()

    def at(self, moment: float, action: Action) -> None:
        """Do something at a moment, by the monotonic clock."""
        heapq.heappush(self._due, (moment, next(self._order), action))

    def after(self, seconds: float, action: Action) -> None:
        """Do something so many seconds from now."""
        self.at(time.monotonic() + seconds, action)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self._pass(time.monotonic() + seconds)

    def finish(self, moment: float) -> None:
        """Let time pass until then, and on until nothing is left to be done."""
        self._pass(moment)
        while self._due:
            self._pass(self._due[0][0])

    def _pass(self, moment: float) -> None:
        while True:
            self._watch()
            now = time.monotonic()
            if self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()
                continue
            if now >= moment:
                return
            due = self._due[0][0] if self._due else moment
            self._pause.wait(max(0.0, min(due, moment, now + WATCH) - now))
