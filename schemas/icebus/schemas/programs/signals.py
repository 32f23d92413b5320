"""Being told to stop."""

from __future__ import annotations

import threading

HEED = 1.0
"""Seconds that a program waits at a time. A signal may reach any of its threads, but Python handles
it on the main one, and only when that wakes: one that waits for ever may never hear of it."""


def wait_told(stop: threading.Event) -> None:
    """Wait on the main thread until a signal handler has set ``stop``."""
    while not stop.wait(HEED):
        pass
