"""The log of a program: one line per fact, whatever the network sends, and never a flood of them.

Every program calls :func:`log_to_stderr` once. What is logged by the thousand is said once and
then counted; control characters and what else a terminal would obey are shown as escapes, so that
no text from elsewhere looks like a line of ours.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TextIO

WINDOW = 10.0
"""Seconds in which lines that are alike are counted rather than said."""

LONGEST_WINDOW = 600.0
"""Seconds: the window doubles for as long as the flood goes on, so that three days of it are some
hundred lines."""

WARNINGS = 10
"""Different lines of one kind that are said in a window, from a warning upwards. A kind is one
place in the code, told apart by ``extra={"subject": ...}`` where that says who it is about."""

FACTS = 1000
"""The same for what is no warning and has no subject: 1,000 boards found at once are each said."""

REMEMBERED = 1000
"""Kinds that are kept count of; the one seen longest ago is forgotten beyond."""

LONGEST_LINE = 2000
"""Characters of a line."""

TRACEBACK_LINES = 80
"""The last ones of a traceback, which say what failed."""

CONTINUED = "  | "
"""What lines of a traceback begin with; no line of the log does."""

_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
"""What every record has; the rest is what a call has added by ``extra``."""

PLAIN = "%(levelname)s %(name)s: %(message)s"
TIMED = f"%(asctime)s {PLAIN}"


def printable(text: str, keep: str = "") -> str:
    """``text`` with escapes in place of what is not printed but obeyed.

    Newlines, sequences of terminals, overrides of the direction of writing, halves of surrogates.

    Args:
        text: from anywhere.
        keep: characters to leave as they are.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in keep else _escape(each) for each in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def added_to(record: logging.LogRecord) -> list[str]:
    """The names of what a call has added to a record by ``extra``."""
    return [name for name in record.__dict__ if name not in _OWN]


def shortened(text: str, longest: int = LONGEST_LINE) -> str:
    """``text``, cut where it is longer than a line may be."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}… ({len(text) - longest:,} characters more)"


class LineFormatter(logging.Formatter):
    """Writes a record as one line, and the lines of a traceback so that none looks like one."""

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record."""
        record.message = record.getMessage()
        if self.usesTime():
            record.asctime = self.formatTime(record, self.datefmt)
        lines = [printable(shortened(self.formatMessage(record)))]
        if record.exc_info:
            lines += _continued(self.formatException(record.exc_info))
        if record.stack_info:
            lines += _continued(self.formatStack(record.stack_info))
        return "\n".join(lines)


def _continued(text: str) -> Iterator[str]:
    lines = text.split("\n")
    if len(lines) > TRACEBACK_LINES:
        yield f"{CONTINUED}… {len(lines) - TRACEBACK_LINES} lines before"
    for line in lines[-TRACEBACK_LINES:]:
        yield CONTINUED + printable(shortened(line))


@dataclass
class _Kind:
    """Lines of one kind in the present window."""

    until: float
    since: float
    window: float = WINDOW
    said: set[str] = field(default_factory=set)
    more: dict[str, tuple[int, logging.LogRecord]] = field(default_factory=dict)
    """How many were not said, by their text; those beyond the limit under the empty text."""


class LineCounter:
    """Decides which records are said, and sums up the others. Knows no clock and no thread."""

    def __init__(self) -> None:
        self._kinds: OrderedDict[tuple[object, ...], _Kind] = OrderedDict()

    def admit(self, record: logging.LogRecord, now: float) -> bool:
        """Whether ``record`` is to be said; otherwise it is counted."""
        if record.levelno < logging.INFO:
            return True  # whoever asks for details gets them
        subject = getattr(record, "subject", None)
        warns = subject is not None or record.levelno >= logging.WARNING
        key = (record.name, record.levelno, str(record.msg), subject)
        kind = self._kinds.get(key)
        if kind is None or (now >= kind.until and not kind.more):
            kind = self._kinds[key] = _Kind(now + WINDOW, now)
        self._kinds.move_to_end(key)
        while len(self._kinds) > REMEMBERED:
            self._kinds.popitem(last=False)
        text = _text(record)
        if text not in kind.said and len(kind.said) < (WARNINGS if warns else FACTS):
            kind.said.add(text)
            return True
        counted = text if text in kind.said else ""
        kind.more[counted] = (kind.more.get(counted, (0, record))[0] + 1, record)
        return False

    @property
    def due(self) -> float | None:
        """When something has to be summed up; None while nothing is being counted."""
        return min((each.until for each in self._kinds.values() if each.more), default=None)

    def sum_up(self, now: float, *, all_of_it: bool = False) -> list[logging.LogRecord]:
        """The lines that say how many were not said, of windows that have ended.

        A kind that was counted goes on being counted, in a window twice as long.
        """
        summaries = []
        for key, kind in list(self._kinds.items()):
            if now < kind.until and not all_of_it:
                continue
            if not kind.more:
                del self._kinds[key]
                continue
            for count, record in kind.more.values():
                summaries.append(_summary(record, count, now - kind.since))
            kind.more.clear()
            kind.window = min(2 * kind.window, LONGEST_WINDOW)
            kind.since, kind.until = now, now + kind.window
        return summaries


def _text(record: logging.LogRecord) -> str:
    failure = record.exc_info[1] if record.exc_info else None
    said = record.getMessage()
    return shortened(said if failure is None else f"{said} {failure!r}")


def _summary(record: logging.LogRecord, count: int, seconds: float) -> logging.LogRecord:
    said = shortened(record.getMessage(), LONGEST_LINE // 2)
    summary = logging.makeLogRecord(record.__dict__)
    summary.msg = f"{said} … and {count:,} more like it in {seconds:.0f} s"
    summary.args = None
    summary.exc_info = summary.exc_text = summary.stack_info = None
    summary.created = time.time()
    return summary


Listener = Callable[[logging.LogRecord], None]
"""Is told of each record that a program says, on whatever thread; has to be quick."""


class BoundedHandler(logging.StreamHandler[TextIO]):
    """Says each thing once, counts what comes again, and says the count when the window ends.

    Its thread lives only while something is being counted; :meth:`close` ends it.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._counter = LineCounter()
        self.listeners: tuple[Listener, ...] = ()
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Say or count a record."""
        try:
            if self._counter.admit(record, time.monotonic()):
                self._say([record])
            elif self._timer is None:
                self._await()
        except Exception:  # noqa: BLE001  # a mistake in a log call must not end what it tells of
            self.handleError(record)

    def _await(self) -> None:
        due = self._counter.due
        if due is None:
            self._timer = None
            return
        self._timer = threading.Timer(max(0.0, due - time.monotonic()), self._sum_up)
        self._timer.name = "icebus-log"
        self._timer.daemon = True
        self._timer.start()

    def _sum_up(self) -> None:
        with self.lock or threading.RLock():
            if self._timer is not None:
                self._say(self._counter.sum_up(time.monotonic()))
                self._await()

    def _say(self, records: list[logging.LogRecord]) -> None:
        for record in records:
            super().emit(record)
            for listener in self.listeners:
                try:
                    listener(record)
                except Exception:  # noqa: BLE001  # nor must whoever else is told
                    self.handleError(record)

    def close(self) -> None:
        """Say what was counted so far."""
        with self.lock or threading.RLock():
            timer, self._timer = self._timer, None
            if timer is not None:
                timer.cancel()
            self._say(self._counter.sum_up(time.monotonic(), all_of_it=True))
        super().close()


def log_to_stderr(level: int, form: str | logging.Formatter = TIMED) -> None:
    """Send a program's log to stderr, in lines that are bounded and can't be forged.

    Args:
        level: from which on.
        form: of a line; a formatter has to see to it that none can be forged.

    What ends a thread that nobody watches is logged as well, as Python would otherwise print it.
    """
    handler = BoundedHandler(sys.stderr)
    handler.setFormatter(LineFormatter(form) if isinstance(form, str) else form)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    threading.excepthook = _log_end_of_thread


def follow(listener: Listener) -> Callable[[], None]:
    """Have ``listener`` told of whatever this program says on stderr from now on.

    So of a flood it is told what is said of it there. What it raises is printed as what handlers
    raise is. In a program that has no log of ours, it is told nothing.

    Returns:
        What ends that.
    """
    handlers = [each for each in logging.getLogger().handlers if isinstance(each, BoundedHandler)]
    for handler in handlers:
        handler.listeners = (*handler.listeners, listener)

    def end() -> None:
        for handler in handlers:
            handler.listeners = tuple(each for each in handler.listeners if each is not listener)

    return end


def about(serial: str, **fields: str) -> dict[str, str]:
    """``extra`` of a call that logs something about a device, told apart from others by it.

    Args:
        serial: of the device; whoever holds it is told of the line as well, unless ``fields``
            name another user or reservation.
        fields: what else it is about: reservation, evaluation, user.
    """
    return {"subject": serial, "serial": serial, **fields}


def keep_files_private() -> None:
    """Have whatever this program writes be its owner's only, whatever the shell's umask is.

    Databases and what SQLite puts beside them, journals, folders and sockets have no other place
    where it could be said of all.
    """
    os.umask(0o077)


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_type is SystemExit or ended.exc_value is None:
        return
    name = ended.thread.name if ended.thread is not None else "unknown"
    failure = (ended.exc_type, ended.exc_value, ended.exc_traceback)
    logging.getLogger("icebus").error("thread %s has ended", name, exc_info=failure)


class UnconfiguredHandler(BoundedHandler):
    """Says warnings of the library in a program that has not configured logging.

    Python would print them bare. Where the program has handlers of its own, they say it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setLevel(logging.WARNING)
        self.setFormatter(LineFormatter(PLAIN))

    def emit(self, record: logging.LogRecord) -> None:
        """Say or count a record, if nobody else does."""
        if not logging.getLogger().handlers:
            self.stream = sys.stderr  # a notebook or a test may have put another in its place
            super().emit(record)
