"""Whether Mosquitto grows: asked of the kernel ten times a second, of Mosquitto itself once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

GROWTH = 32 << 20
"""Bytes by which Mosquitto has grown when it is time to look why: a thirtieth of what it may have,
and some 30,000 small retained messages."""

HEAP = "$SYS/broker/heap/current"
"""Where Mosquitto tells what it has of its memory in use."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Growth:
    """Whether a number has grown by :data:`GROWTH` since it was last said that it has. Pure."""

    def __init__(self) -> None:
        self._from: int | None = None

    def grown(self, size: int) -> bool:
        """Take in how large it is; returns whether it has grown."""
        if self._from is None or size < self._from:
            self._from = size
        if size - self._from < GROWTH:
            return False
        self._from = size
        return True


class Memory:
    """What Mosquitto has of the machine's memory, and of that in use.

    The first is known at once, but what was given back is used again before it grows.

    Args:
        pid: of Mosquitto, if it runs.
    """

    def __init__(self, pid: Callable[[], int | None]) -> None:
        self._pid = pid
        self._resident = Growth()
        self._heap = Growth()
        self._told = 0

    def told(self, payload: bytes) -> None:
        """Mosquitto has told how much is in use; may be called on any thread."""
        if payload.isdigit():
            self._told = int(payload[:18])

    @property
    def grown(self) -> bool:
        """Whether it has grown since this was last said; cheap."""
        # Both are asked, so that both begin from here.
        return any([self._resident.grown(self._resident_now()), self._heap.grown(self._told)])

    def _resident_now(self) -> int:
        pid = self._pid()
        if pid is None:
            return 0
        try:
            return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
        except (OSError, IndexError, ValueError):
            return 0  # it has ended, or the system tells it otherwise
