"""How much a program logs, and in which form: options that all programs have, and JSON lines."""

from __future__ import annotations

import json
import logging
import math
import sys
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType
from typing import Annotated

import typer

from icebus.schemas.programs.logs import (
    TIMED,
    TRACEBACK_LINES,
    LineFormatter,
    added_to,
    log_to_stderr,
    printable,
    shortened,
)

LONGEST_FIELD = 500
"""Characters of a field's value."""


class LogLevel(StrEnum):
    """From which level on lines are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def number(self) -> int:
        """As the standard library has it."""
        return logging.getLevelNamesMapping()[self.name]


class LogFormat(StrEnum):
    """What a line of the log looks like."""

    TEXT = "text"
    JSON = "json"


LogLevelOption = Annotated[
    LogLevel,
    typer.Option(
        "--log-level", envvar="ICEBUS_LOG_LEVEL", case_sensitive=False, help="How much to log."
    ),
]
LogFormatOption = Annotated[
    LogFormat,
    typer.Option(
        "--log-format",
        envvar="ICEBUS_LOG_FORMAT",
        case_sensitive=False,
        help="Lines for people, or one JSON object a line.",
    ),
]


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object in one line of ASCII, whatever is in it.

    ``time`` (UTC), ``level``, ``logger``, ``message`` are always there; ``fields`` where the call
    has added some, ``traceback`` as a list of lines where something failed.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record."""
        moment = datetime.fromtimestamp(record.created, UTC)
        document: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": printable(shortened(record.getMessage())),
        }
        fields = {name: _value(record.__dict__[name]) for name in added_to(record)}
        if fields:
            document["fields"] = fields
        if record.exc_info:
            lines = self.formatException(record.exc_info).split("\n")
            document["traceback"] = [
                printable(shortened(each)) for each in lines[-TRACEBACK_LINES:]
            ]
        return json.dumps(document, allow_nan=False)


def _value(value: object) -> object:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return printable(shortened(str(value), LONGEST_FIELD))


def log_as_told(level: LogLevel, form: LogFormat) -> None:
    """Send a program's log to stderr, from a level on, in a form; its own crash, too."""
    text = LineFormatter(TIMED)
    log_to_stderr(level.number, JsonFormatter() if form is LogFormat.JSON else text)
    sys.excepthook = _log_crash


def tell_failure(program: str, message: str) -> None:
    """Say on stderr why a program ends: a line for people, or like all else that it has logged.

    Args:
        program: its name.
        message: why, with the remedy; has lines of its own where that is needed.
    """
    if any(isinstance(each.formatter, JsonFormatter) for each in logging.getLogger().handlers):
        logging.getLogger("icebus").critical("%s", message)
    else:
        typer.echo(printable(f"{program}: {message}", "\n"), err=True)


def _log_crash(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("icebus").critical("the program has crashed", exc_info=(kind, error, trace))
