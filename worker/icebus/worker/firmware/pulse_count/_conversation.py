"""The conversation with the pulse-count firmware: its text in, what it means out. Pure.

The protocol and its constants are in :mod:`icebus.schemas.boards.pulse_count_text`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from icebus.schemas.boards import pulse_count_text as text

QUIET = 0.25
"""Seconds without a new transfer after one broke off, which show that no stray bytes are left:
those under way reach the board within milliseconds."""

_WATCHDOG = re.compile(re.escape(text.WATCHDOG_PREFIX) + r"(\d{1,9}) ")
_PULSES = re.compile(re.escape(text.PULSES_PREFIX.strip(", ")) + r"\s*(\d{1,12})$")
_RECEIVED = text.RECEIVED.split("{", maxsplit=1)[0]


@dataclass(frozen=True)
class Waiting:
    """The board waits for a transfer."""


@dataclass(frozen=True)
class Started:
    """The first byte of a transfer has come."""


@dataclass(frozen=True)
class Received:
    """The transfer is complete; loading and measuring begin."""


@dataclass(frozen=True)
class Watchdog:
    """The transfer was not complete in time and is forgotten."""

    received: int


@dataclass(frozen=True)
class Report:
    """A measurement, with what a virtual board says of it.

    Attributes:
        pulses: rising edges counted.
        exact: False for an estimate.
        cdone: whether the FPGA took its configuration; None where the board does not say.
        note: why it is an estimate.
    """

    pulses: int
    exact: bool = True
    cdone: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class NoReport:
    """A virtual board can't know the count.

    Attributes:
        decoder: True when it has no decoder at all, False when the design is not supported.
        reason: for people.
    """

    decoder: bool
    reason: str


Meaning = Waiting | Started | Received | Watchdog | Report | NoReport


@dataclass
class Conversation:
    """Understands one line after the other; what it does not know it ignores."""

    _remark: Report | None = field(default=None, init=False)

    def read(self, line: str) -> Meaning | None:
        """What ``line`` means, or None for a line that changes nothing."""
        if line == text.WAITING:
            self._remark = None
            return Waiting()
        if line == text.STARTED:
            self._remark = None
            return Started()
        if line.startswith(_RECEIVED):
            return Received()
        if (found := _WATCHDOG.match(line)) is not None:
            return Watchdog(int(found[1]))
        if line.startswith(text.VIRTUAL_PREFIX):
            return self._virtual(line)
        # The count is the report's second line; some builds print both lines as one.
        if (found := _PULSES.search(line)) is not None:
            remark, self._remark = self._remark, None
            return replace(remark or Report(0), pulses=int(found[1]))
        return None

    def _virtual(self, line: str) -> NoReport | None:
        if line.startswith(text.VIRTUAL_UNSUPPORTED):
            return NoReport(decoder=False, reason=_said(line, text.VIRTUAL_UNSUPPORTED))
        if line.startswith(text.VIRTUAL_UNAVAILABLE):
            return NoReport(decoder=True, reason=_said(line, text.VIRTUAL_UNAVAILABLE))
        if line.startswith(text.VIRTUAL_ESTIMATE):
            note = _said(line, text.VIRTUAL_ESTIMATE)
            self._remark = Report(0, exact=False, cdone=True, note=note)
        elif line == text.VIRTUAL_CDONE_LOW:
            self._remark = Report(0, cdone=False)
        elif line == text.VIRTUAL_EXACT:
            self._remark = Report(0, cdone=True)
        return None


def _said(line: str, prefix: str) -> str:
    """What comes after ``prefix``, fit to be shown to people whatever the board says."""
    return text.single_line(line.removeprefix(prefix))


_BANNERS = (text.WAITING, text.STARTED, text.RECEIVING, text.CONNECTED, text.FLASHING, text.IDLE)


def recognises(line: str) -> bool:
    """Whether only this firmware says such a line."""
    return (
        line in _BANNERS
        or line.startswith((_RECEIVED, text.FLASH_TIMES_PREFIX, text.VIRTUAL_PREFIX))
        or _WATCHDOG.match(line) is not None
    )
