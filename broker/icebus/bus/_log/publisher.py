"""Publishing what a program logs: never waited for, bounded, and never about itself."""

from __future__ import annotations

import contextlib
import itertools
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable

from icebus.bus._bus import Bus
from icebus.bus._log.choice import Choice
from icebus.bus._messages import Incoming
from icebus.schemas.log_records import (
    LARGEST_RECENT,
    MOST_RECENT,
    LogRecord,
    RecentLines,
    RecentLog,
    RecordLevel,
    read_record,
)
from icebus.schemas.message import decode, now
from icebus.schemas.programs.logs import follow
from icebus.schemas.topics import LOG, LOG_RECENT, Role

log = logging.getLogger(__name__)

GATHER = 0.2
"""Seconds from a line until it is sent, with those that follow."""

WAITING = 500
"""Lines that wait to be sent, as while the broker is away; the oldest make way for others."""

WARNINGS = 60
"""Among the latest lines that are retained."""

FACTS = MOST_RECENT - WARNINGS
"""Likewise, of what is no warning."""

RETAINED_EVERY = 5.0
"""Seconds between two times that the latest lines are retained anew."""

FIRST_RETAINED = 1.0
"""Seconds from connecting until they are: what the run before has left comes by then."""

Hear = Callable[[LogRecord], None]


class LogPublisher:
    """Publishes what this process logs from now on, until closed. One of a process is enough.

    Whoever logs only puts a line into a queue: nothing of the bus is waited for, and a line that
    finds no room or comes too quickly is counted and left out. All else is done on the bus's
    dispatcher.

    Args:
        bus: to publish on.
        role: of the component.
        name: its id.
        hear: told of each line that is sent, as it is sent; on the dispatcher.
    """

    def __init__(self, bus: Bus, role: Role, name: str, hear: Hear | None = None) -> None:
        self._bus = bus
        self._role = role
        self._name = name
        self._hear = hear
        self._run = secrets.token_hex(4)
        self._numbers = itertools.count()
        self._choice = Choice()
        self._waiting: deque[LogRecord] = deque()
        self._woken = False
        self._closed = False
        # Held while sending, which only enqueues; never while a line is taken.
        self._sending = threading.Lock()
        self._sender = 0
        self._recent = RecentLines(WARNINGS, FACTS, LARGEST_RECENT)
        self._retained_at = 0.0
        self._retaining = False
        self._unretained = False
        self._own = bus.subscribe(LOG_RECENT, self._on_recent, role=role, id=name)
        self._end = follow(self._take)
        bus.on_connected(self._on_connected)

    def close(self) -> None:
        """Send what waits and end, before the bus is closed."""
        self._end()
        self._own.cancel()
        self._send()
        with self._sending:
            if self._unretained and self._bus.connected:
                self._retain()
            self._closed = True

    # --- any thread, with the handler's lock ----------------------------------------------------

    def _take(self, record: logging.LogRecord) -> None:
        if threading.get_ident() == self._sender:
            return
        if not self._choice.takes(record, time.monotonic()):
            return
        if len(self._waiting) >= WAITING:
            self._waiting.popleft()
            self._choice.left_out += 1
        self._waiting.append(read_record(record, self._next_id()))
        if not self._woken:
            self._woken = True
            # Takes no lock: what is logged may be logged while one is held.
            self._bus.call_soon(self._send_soon)

    def _next_id(self) -> str:
        return f"{self._run}-{next(self._numbers)}"

    # --- the dispatcher -------------------------------------------------------------------------

    def _send_soon(self) -> None:
        self._bus.call_later(GATHER, self._send)

    def _on_connected(self) -> None:
        # A broker that was started anew may retain nothing of us.
        self._unretained = self._unretained or bool(self._retained_at)
        self._send()

    def _send(self) -> None:
        """Send what waits; while the broker is away, it goes on waiting."""
        with self._sending:
            self._woken = False
            if self._closed or not self._bus.connected:
                return
            self._sender = threading.get_ident()
            try:
                with self._bus.together():
                    while self._waiting:
                        self._send_line(self._waiting.popleft())
                    self._tell_left_out()
            finally:
                self._sender = 0
            if self._unretained and not self._retaining:
                self._retaining = True
                self._bus.call_later(self._until_retained(), self._retain_now)

    def _tell_left_out(self) -> None:
        left_out, self._choice.left_out = self._choice.left_out, 0
        if left_out:
            self._send_line(
                LogRecord(
                    id=self._next_id(),
                    at=now(),
                    level=RecordLevel.WARNING,
                    logger=__name__,
                    message=f"{left_out:,} lines more were logged than are sent: the log on the "
                    "machine itself has them",
                )
            )

    def _send_line(self, line: LogRecord) -> None:
        # Best effort, and what is the matter with it can't be logged.
        with contextlib.suppress(Exception):
            self._bus.publish(LOG(role=self._role, id=self._name, level=line.level), line)
            self._recent.add(line)
            self._unretained = True
            if self._hear is not None:
                self._hear(line)

    def _until_retained(self) -> float:
        at = max(self._bus.connected_at + FIRST_RETAINED, self._retained_at + RETAINED_EVERY)
        return max(0.0, at - time.monotonic())

    def _retain_now(self) -> None:
        with self._sending:
            self._retaining = False
            if not self._closed and self._bus.connected:
                self._retain()

    def _retain(self) -> None:
        self._own.cancel()
        self._retained_at = time.monotonic()
        self._unretained = False
        self._sender = threading.get_ident()
        try:
            with contextlib.suppress(Exception):
                topic = LOG_RECENT(role=self._role, id=self._name)
                self._bus.publish(topic, self._recent.message())
        finally:
            self._sender = 0

    def _on_recent(self, incoming: Incoming) -> None:
        """What the run before has left, or somebody of its name."""
        if incoming.retained and len(incoming.payload) <= LARGEST_RECENT and incoming.payload:
            earlier = decode(RecentLog, incoming.payload)
            with self._sending:
                self._recent.put_before(earlier)
