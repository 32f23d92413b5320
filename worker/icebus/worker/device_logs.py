"""What is logged of a device, told to whoever holds it: nothing of before, or of anybody else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from icebus.bus import Bus
from icebus.schemas.devices import Desired
from icebus.schemas.ids import is_id
from icebus.schemas.log_records import LARGEST_OF_DEVICE, LogRecord, RecentLines
from icebus.schemas.topics import DEVICE_LOG, TopicName

GATHER = 0.5
"""Seconds from a line until it is told, with those that follow."""

AT_ONCE = 50
"""Devices that are told of at once, every so many seconds: a rack may lose a thousand."""

LINES = 20
"""Warnings that are told of each device, and as many lines that are none."""


@dataclass
class _Told:
    user: str
    reservation: str
    lines: RecentLines = field(default_factory=lambda: RecentLines(LINES, LINES, LARGEST_OF_DEVICE))


class DeviceLogs:
    """Keeps the latest lines of each device that is held, and has the broker retain them.

    All of it is called on the bus's dispatcher, and at the end once on another thread.

    Args:
        bus: to publish on.
        worker: its id.
        desired: what control wants of a device; any thread.
    """

    def __init__(self, bus: Bus, worker: str, desired: Callable[[str], Desired | None]) -> None:
        self._bus = bus
        self._worker = worker
        self._desired = desired
        self._lock = threading.Lock()
        self._told: dict[str, _Told] = {}
        self._untold: dict[str, None] = {}
        self._gathering = False

    def hear(self, line: LogRecord) -> None:
        """Take a line that the worker has logged; most are of no device that somebody holds."""
        serial = line.fields.get("serial")
        if not isinstance(serial, str) or not is_id(serial):
            return
        held = self._held(serial)
        if held is None or not _is_of(line, *held):
            return
        with self._lock:
            told = self._told.get(serial)
            if told is None or (told.user, told.reservation) != held:
                told = self._told[serial] = _Told(*held)
            told.lines.add(line)
            self._untold[serial] = None
            self._tell_later()

    def on_desired(self, serial: str) -> None:
        """Something else is wanted of a device: who held it is told no more."""
        with self._lock:
            told = self._told.get(serial)
            if told is None or (told.user, told.reservation) == self._held(serial):
                return
            del self._told[serial]
            self._untold.pop(serial, None)
            self._bus.clear(self._topic(serial, told))

    def _held(self, serial: str) -> tuple[str, str] | None:
        desired = self._desired(serial)
        if desired is None or desired.user is None or desired.reservation is None:
            return None
        return desired.user, desired.reservation

    def _tell_later(self) -> None:
        if not self._gathering:
            self._gathering = True
            self._bus.call_later(GATHER, self._tell)

    def _tell(self) -> None:
        with self._lock, self._bus.together():
            self._gathering = False
            for serial in list(self._untold)[:AT_ONCE]:
                del self._untold[serial]
                told = self._told[serial]
                self._bus.publish(self._topic(serial, told), told.lines.message())
            if self._untold:
                self._tell_later()

    def _topic(self, serial: str, told: _Told) -> TopicName:
        return DEVICE_LOG(
            user=told.user, reservation=told.reservation, sender=self._worker, serial=serial
        )


def _is_of(line: LogRecord, user: str, reservation: str) -> bool:
    """Whether a line names nobody but that user, and no other reservation of theirs."""
    fields = line.fields
    return fields.get("user", user) == user and (
        fields.get("reservation", reservation) == reservation
    )
