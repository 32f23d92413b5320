"""Which of a program's log records are sent. Pure."""

from __future__ import annotations

import logging

from icebus.bus._admission.allowances import Bucket

PER_SECOND = 20.0
"""Lines a second that are sent in the long run. A busy farm logs some a minute."""

AT_ONCE = 200
"""Lines that are sent at once after a pause, as when a rack of boards comes."""

UNSENT = (
    "mosquitto",
    "paho",
    "icebus.bus._bus",
    "icebus.bus._connection",
    "icebus.bus._log",
    "icebus.bus._outgoing",
)
"""Loggers of what sends: what is the matter with sending would be sent, and fail, and be logged.

Mosquitto's own lines are among them. They tell what is dropped on its way to slow readers, and ids
of connections, which nobody may know: who connects under one ends the other's connection."""

SENT_ALL_THE_SAME = ("icebus.bus._connection.identity",)
"""That certificates end, and that others have taken their place: it has to do with no message."""


class Choice:
    """Chooses, and counts what is left out for there being too much. Knows no clock.

    Attributes:
        left_out: records since that was last told.
    """

    def __init__(self) -> None:
        self.left_out = 0
        self._bucket = Bucket()

    def takes(self, record: logging.LogRecord, at: float) -> bool:
        """Whether a record is to be sent.

        Args:
            record: of any logger.
            at: now, on the monotonic clock.
        """
        if record.levelno < logging.INFO or _is_of_sending(record.name):
            return False
        self._bucket.fill(PER_SECOND, AT_ONCE, at)
        if not self._bucket.has(1):
            self.left_out += 1
            return False
        self._bucket.take(1)
        return True


def _is_of_sending(logger: str) -> bool:
    return _is_within(logger, UNSENT) and not _is_within(logger, SENT_ALL_THE_SAME)


def _is_within(logger: str, parents: tuple[str, ...]) -> bool:
    return any(logger == each or logger.startswith(f"{each}.") for each in parents)
