"""What is logged of a device, told to whoever holds it: nothing of before, or of anybody else."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime

from icebus.bus import Bus
from icebus.schemas.devices import Desired
from icebus.schemas.log_records import LARGEST_OF_DEVICE, LogRecord, RecentLines
from icebus.schemas.message import now
from icebus.schemas.topics import DEVICE_LOG, TopicName

GATHER = 0.5
"""Seconds from a line until it is told, with those that follow."""

AT_ONCE = 50
"""Devices that are told of at once, every so many seconds: a rack may lose a thousand."""

LINES = 20
"""Warnings that are told of each device, and as many lines that are none."""


@dataclass
class _Hold:
    user: str
    reservation: str
    since: datetime
    lines: RecentLines | None = None


class DeviceLogs:
    """Keeps the latest lines of each device that is held, and has the broker retain them.

    All of it is called on the bus's dispatcher, and at the end once on another thread.

    Args:
        bus: to publish on.
        worker: its id.
    """

    def __init__(self, bus: Bus, worker: str) -> None:
        self._bus = bus
        self._worker = worker
        self._lock = threading.Lock()
        self._holds: dict[str, _Hold] = {}
        self._untold: dict[str, None] = {}
        self._gathering = False

    def hear(self, line: LogRecord) -> None:
        """Take a line that the worker has logged; most are of no device that somebody holds."""
        serial = line.fields.get("serial")
        with self._lock:
            hold = self._holds.get(serial) if isinstance(serial, str) else None
            if hold is None or not _is_of(line, hold):
                return
            if hold.lines is None:
                hold.lines = RecentLines(LINES, LINES, LARGEST_OF_DEVICE)
            hold.lines.add(line)
            self._untold[str(serial)] = None
            self._tell_later()

    def on_desired(self, serial: str, desired: Desired | None) -> None:
        """Something is wanted of a device: who held it so far is told no more."""
        user = None if desired is None else desired.user
        reservation = None if desired is None else desired.reservation
        with self._lock:
            before = self._holds.get(serial)
            if before is not None and (before.user, before.reservation) == (user, reservation):
                return
            if before is not None:
                del self._holds[serial]
                self._untold.pop(serial, None)
                if before.lines is not None:
                    self._bus.clear(self._topic(serial, before))
            if user is not None and reservation is not None:
                self._holds[serial] = _Hold(user, reservation, now())

    def _tell_later(self) -> None:
        if not self._gathering:
            self._gathering = True
            self._bus.call_later(GATHER, self._tell)

    def _tell(self) -> None:
        with self._lock, self._bus.together():
            self._gathering = False
            for serial in list(self._untold)[:AT_ONCE]:
                del self._untold[serial]
                hold = self._holds[serial]
                if hold.lines is not None:
                    self._bus.publish(self._topic(serial, hold), hold.lines.message())
            if self._untold:
                self._tell_later()

    def _topic(self, serial: str, hold: _Hold) -> TopicName:
        return DEVICE_LOG(
            user=hold.user, reservation=hold.reservation, sender=self._worker, serial=serial
        )


def _is_of(line: LogRecord, hold: _Hold) -> bool:
    """Whether a line was logged since, and names no other user and no other reservation."""
    fields = line.fields
    return (
        line.at >= hold.since
        and fields.get("user", hold.user) == hold.user
        and fields.get("reservation", hold.reservation) == hold.reservation
    )
