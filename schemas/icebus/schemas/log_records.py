"""Lines of components' logs on the bus: what they are, how long at most, and the latest of them.

Whoever reads them has no reason to trust who wrote them; whoever writes them has no room for more.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections import deque
from datetime import UTC, datetime
from enum import StrEnum
from itertools import count

from pydantic import Field

from icebus.schemas.ids import Id
from icebus.schemas.message import Message, Timestamp
from icebus.schemas.programs.logs import added_to, printable, shortened

LONGEST_MESSAGE = 1000
"""Characters of a message."""

LONGEST_NAME = 100
"""Characters of a logger's name, and of a field's name or value."""

MOST_FIELDS = 8

LONGEST_TRACEBACK = 10
"""The last lines of it, of :data:`LONGEST_TRACE_LINE` characters each."""

LONGEST_TRACE_LINE = 200

LARGEST_RECORD = 16 << 10
"""Bytes of a line with all that may stand in it; most have some 200."""

MOST_RECENT = 100
"""Lines among the latest of a component, or of a device."""

LARGEST_RECENT = 32 << 10
"""Bytes of the latest lines of a component together."""

LARGEST_OF_DEVICE = 12 << 10
"""Bytes of the latest lines of a device together."""

_PASSWORD = re.compile(r"://([^/\s@:]*):[^/\s@]*@")
"""In a URL. None is logged, but an error of a library may name one."""


class RecordLevel(StrEnum):
    """How much a line matters."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def number(self) -> int:
        """As the standard library has it."""
        return logging.getLevelNamesMapping()[self.name]

    @classmethod
    def of(cls, number: int) -> RecordLevel:
        """The highest level that is not above that number."""
        return next((each for each in reversed(cls) if each.number <= number), cls.DEBUG)


class LogRecord(Message):
    """A log line, on ``log/{role}/{id}/{level}``."""

    id: Id = Field(description="Tells it from all others; the same among the latest lines.")
    at: Timestamp
    level: RecordLevel
    logger: str
    message: str
    fields: dict[str, str | int | float | bool | None] = Field(
        default_factory=dict,
        description="What it is about, where known: serial, reservation, evaluation, user, …",
    )
    traceback: list[str] = Field(
        default_factory=list, description="The end of it, where something failed."
    )


class RecentLog(Message):
    """The latest log lines of a component, or of a device that somebody holds."""

    lines: list[LogRecord] = Field(description="Oldest first.")


def read_record(record: logging.LogRecord, id_: str) -> LogRecord:
    """What is sent of a record: bounded, without what a terminal obeys, and without passwords.

    Args:
        record: as a program logged it.
        id_: of the line.
    """
    names = [name for name in added_to(record) if name != "subject"][:MOST_FIELDS]
    return LogRecord(
        id=id_,
        at=datetime.fromtimestamp(record.created, UTC),
        level=RecordLevel.of(record.levelno),
        logger=text(record.name, LONGEST_NAME),
        message=text(record.getMessage(), LONGEST_MESSAGE),
        fields={text(name, LONGEST_NAME): _value(record.__dict__[name]) for name in names},
        traceback=_traceback(record),
    )


def text(said: str, longest: int) -> str:
    """What may be shown of a text from anywhere, in one line."""
    escaped = printable(shortened(said, longest))
    # Escapes are longer than what they stand for.
    return _PASSWORD.sub(r"://\1:…@", shortened(escaped, longest + LONGEST_NAME))


def _value(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool | float):
        # JSON has no infinity, and no number that is none.
        return value if value is None or value - value == 0 else str(value)
    if isinstance(value, int) and abs(value) < 2**53:
        return value
    return text(str(value), LONGEST_NAME)


def _traceback(record: logging.LogRecord) -> list[str]:
    if not record.exc_info or record.exc_info[1] is None:
        return []
    # Not all of one that is long: its text is made before it can be cut.
    lines = traceback.format_exception(record.exc_info[1], limit=-LONGEST_TRACEBACK, chain=False)
    ending = "".join(lines).rstrip("\n").split("\n")[-LONGEST_TRACEBACK:]
    return [text(line, LONGEST_TRACE_LINE) for line in ending]


class RecentLines:
    """The latest lines of one sender, bounded in number and bytes. Knows no clock and no thread.

    Warnings are kept apart from what is none, so that many of these leave them there.

    Args:
        warnings: how many of these at most, and of what is worse.
        facts: how many of all others.
        largest: bytes of all together.
    """

    def __init__(self, warnings: int, facts: int, largest: int) -> None:
        self._largest = largest
        self._warnings: deque[tuple[int, LogRecord]] = deque(maxlen=warnings)
        self._facts: deque[tuple[int, LogRecord]] = deque(maxlen=facts)
        self._order = count()

    def add(self, record: LogRecord) -> None:
        """Keep a line, of its traceback the last one."""
        kept = record.model_copy(update={"traceback": record.traceback[-1:]})
        self._of(record).append((next(self._order), kept))

    def put_before(self, earlier: RecentLog) -> None:
        """Keep what an earlier run has said, as far as there is room."""
        known = {record.id for _, record in (*self._warnings, *self._facts)}
        for order, record in enumerate(reversed(earlier.lines), start=1):
            kept = self._of(record)
            if record.id not in known and len(kept) < (kept.maxlen or 0):
                kept.appendleft((-order, record))

    def message(self) -> RecentLog:
        """What is kept, oldest first; where it is too large, the newest of it."""
        fitting: list[LogRecord] = []
        left = self._largest - len('{"lines":[]}')
        for _, record in sorted((*self._warnings, *self._facts), key=_order, reverse=True):
            left -= len(record.to_json()) + 1
            if left < 0:
                break
            fitting.append(record)
        return RecentLog(lines=fitting[::-1])

    def _of(self, record: LogRecord) -> deque[tuple[int, LogRecord]]:
        warns = record.level.number >= logging.WARNING
        return self._warnings if warns else self._facts


def _order(kept: tuple[int, LogRecord]) -> int:
    return kept[0]
