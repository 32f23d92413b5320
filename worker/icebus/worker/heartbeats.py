"""Answers to control's heartbeats, and what follows when the devices' loop does not give them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from icebus.schemas.components import Heartbeat
from icebus.worker.loop import Loop

STUCK_AFTER = 30.0
"""Seconds that a heartbeat may wait for the loop. After three of them control takes the worker for
gone; a loop that then still does not turn is not going to."""

LONGEST_PAUSE = 2.0
"""Intervals that count as waiting, of those between two heartbeats: in more, nobody beat, or this
process stood still itself."""


class Heartbeats:
    """Answers heartbeats on the loop, so that they stop when it does.

    Args:
        loop: of the devices.
        answer: gives the answer to one; called on the loop.
        on_stuck: called when the loop has not turned for long, on the thread that takes heartbeats.
    """

    def __init__(
        self, loop: Loop, answer: Callable[[Heartbeat], None], on_stuck: Callable[[str], None]
    ) -> None:
        self._loop = loop
        self._answer = answer
        self._on_stuck = on_stuck
        self._lock = threading.Lock()
        self._latest: Heartbeat | None = None
        self._taken_at = 0.0
        self._waited = 0.0

    def take(self, beat: Heartbeat) -> None:
        """Answer a heartbeat once the loop turns, or rather the latest that has come by then."""
        at = time.monotonic()
        with self._lock:
            waiting = self._latest is not None
            self._latest = beat
            # A process that was stopped has waited for itself, which is not the loop's fault.
            passed = min(at - self._taken_at, LONGEST_PAUSE * beat.interval)
            self._waited = self._waited + passed if waiting else 0.0
            self._taken_at = at
            waited = self._waited
        if not waiting:
            self._loop.post(self._answer_latest)
        elif waited > STUCK_AFTER:
            self._on_stuck(f"the devices' loop has not turned for {waited:.0f} s")

    def _answer_latest(self) -> None:
        with self._lock:
            beat, self._latest = self._latest, None
        if beat is not None:
            self._answer(beat)
