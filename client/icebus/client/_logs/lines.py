"""Log lines of the farm, of what the bus brings: each once, and only from whose word counts."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from icebus.schemas.log_records import (
    LONGEST_MESSAGE,
    LONGEST_NAME,
    LONGEST_TRACE_LINE,
    LONGEST_TRACEBACK,
    MOST_FIELDS,
    MOST_RECENT,
    LogRecord,
    RecentLog,
    RecordLevel,
    text,
)
from icebus.schemas.message import decode
from icebus.schemas.operations.reservations import HoldState, Reservation
from icebus.schemas.topics import DEVICE_LOG, LOG, LOG_RECENT, RESERVATION, Role, Topic

REMEMBERED = 1000
"""Lines of one sender about one device, or about none, that are known to have been told. What is
retained is told again with each new line."""

WINDOW = 5.0
"""Seconds in which the lines of a component are counted."""

MOST_IN_WINDOW = 400
"""Lines of a component that are read in that time: each sends 200 at once and 20 a second."""

MOST_SENDERS = 4096
"""Components that are counted, and devices of which lines are remembered. There are as many
components as the broker knows."""

Value = str | int | float | bool | None


@dataclass(frozen=True)
class LogLine:
    """A line that a component of the farm has logged; no terminal obeys anything in it.

    Attributes:
        at: when, by the clock of its machine.
        level: debug, info, warning, error or critical.
        role: control, worker or broker.
        component: its id.
        logger: the part of the program.
        message: what it says.
        fields: what it is about, where known: serial, reservation, evaluation, user, …
        traceback: the end of it, where something failed.
    """

    at: datetime
    level: RecordLevel
    role: str
    component: str
    logger: str
    message: str
    fields: Mapping[str, Value] = field(default_factory=dict)
    traceback: tuple[str, ...] = ()

    @property
    def serial(self) -> str | None:
        """The device that it is about; None where it says none."""
        serial = self.fields.get("serial")
        return serial if isinstance(serial, str) else None


@dataclass(frozen=True)
class Wanted:
    """Which lines somebody asks for.

    Attributes:
        level: from which on.
        serial: about which device; None for all.
        worker: of which worker; None for all components.
        since: nothing older; None for all.
    """

    level: RecordLevel = RecordLevel.INFO
    serial: str | None = None
    worker: str | None = None
    since: datetime | None = None

    def matches(self, line: LogLine) -> bool:
        """Whether a line is one of them."""
        return (
            line.level.number >= self.level.number
            and (self.worker is None or (line.role, line.component) == (Role.WORKER, self.worker))
            and (self.serial is None or self._is_about(line, self.serial))
            and (self.since is None or line.at >= self.since)
        )

    def _is_about(self, line: LogLine, serial: str) -> bool:
        # Control and the broker name boards in their messages only.
        wanted = serial.casefold()
        return (line.serial or "").casefold() == wanted or wanted in line.message.casefold()


class LogFeed:
    """Makes messages into lines that were not told before. Pure, but for what it remembers.

    A worker whose credentials were stolen may write to anybody about any device: of devices, only
    the word of the worker counts that the reservation has them from.

    Args:
        user: who reads.
        wanted: which lines.
    """

    def __init__(self, user: str, wanted: Wanted) -> None:
        self._user = user
        self._wanted = wanted
        self._owners: dict[str, dict[str, str]] = {}
        # Of each sender apart, so that one which floods has none of another's told again.
        self._told: OrderedDict[tuple[str, str, str | None], OrderedDict[str, None]] = OrderedDict()

    def take(self, topic: Topic, ids: Mapping[str, str], payload: bytes) -> list[LogLine]:
        """What is new in a message.

        Raises:
            InvalidRequest: it is not what its topic is for.
        """
        if topic is RESERVATION:
            self._note(ids["reservation"], payload)
        if not payload or topic is RESERVATION:
            return []
        if topic is LOG:
            record = decode(LogRecord, payload)
            return self._new(ids["role"], ids["id"], [record])
        if topic is LOG_RECENT:
            return self._new(ids["role"], ids["id"], decode(RecentLog, payload).lines)
        owners = self._owners.get(ids["reservation"], {})
        if topic is not DEVICE_LOG or owners.get(ids["serial"]) != ids["sender"]:
            return []
        records = decode(RecentLog, payload).lines
        return self._new(Role.WORKER, ids["sender"], records, ids["serial"])

    def _note(self, reservation: str, payload: bytes) -> None:
        held = decode(Reservation, payload) if payload else None
        if held is None or held.user != self._user:
            self._owners.pop(reservation, None)
            return
        self._owners[reservation] = {
            each.serial: each.worker
            for each in held.devices
            if each.state is not HoldState.RELEASED
        }

    def _new(
        self, role: str, component: str, records: list[LogRecord], serial: str | None = None
    ) -> list[LogLine]:
        told = self._told.setdefault((role, component, serial), OrderedDict())
        self._told.move_to_end((role, component, serial))
        if len(self._told) > MOST_SENDERS:
            self._told.popitem(last=False)
        # No sender of ours keeps more.
        fresh = [each for each in records[-MOST_RECENT:] if _is_new(told, each.id)]
        lines = (_line(role, component, each, serial) for each in fresh)
        return [line for line in lines if self._wanted.matches(line)]


def _is_new(told: OrderedDict[str, None], id_: str) -> bool:
    new = id_ not in told
    told[id_] = None
    told.move_to_end(id_)  # what is retained still is remembered longest
    if len(told) > REMEMBERED:
        told.popitem(last=False)
    return new


class SenderLimit:
    """Says how many lines of each component are read. Pure: knows no clock."""

    def __init__(self) -> None:
        self._windows: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    def count(self, role: str, component: str, at: float, lines: int = 1) -> int:
        """Count lines; how many there are of that component by now in this window.

        Those beyond :data:`MOST_IN_WINDOW` are not to be read.

        Args:
            role: of the component.
            component: its id.
            at: now, on the monotonic clock.
            lines: how many have come.
        """
        since, before = self._windows.get((role, component), (at, 0))
        if at - since >= WINDOW:
            since, before = at, 0
        self._windows[role, component] = since, before + lines
        if len(self._windows) > MOST_SENDERS:
            self._windows.popitem(last=False)
        return before + lines


def _line(role: str, component: str, record: LogRecord, serial: str | None) -> LogLine:
    """A line of a record, whoever has written it: bounded and printable, as ours are."""
    fields = dict(_fields(record.fields))
    if serial is not None:
        fields["serial"] = serial
    return LogLine(
        at=record.at,
        level=record.level,
        role=role,
        component=component,
        logger=text(record.logger, LONGEST_NAME),
        message=text(record.message, LONGEST_MESSAGE),
        fields=fields,
        traceback=tuple(
            text(each, LONGEST_TRACE_LINE) for each in record.traceback[-LONGEST_TRACEBACK:]
        ),
    )


def _fields(fields: Mapping[str, Value]) -> Iterator[tuple[str, Value]]:
    for name, value in list(fields.items())[: MOST_FIELDS + 1]:
        long = isinstance(value, int) and abs(value) >= 2**53
        shown = text(str(value), LONGEST_NAME) if long or isinstance(value, str) else value
        yield text(name, LONGEST_NAME), shown


def line_of_ours(message: str, at: datetime, component: str) -> LogLine:
    """What a reader itself has to say, among the lines that it reads."""
    return LogLine(
        at=at,
        level=RecordLevel.of(logging.WARNING),
        role="client",
        component=component,
        logger=__name__,
        message=message,
    )
