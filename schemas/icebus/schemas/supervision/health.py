"""Verdicts on a program's health, and the checks that all programs share: pure functions.

What a program looks at stands in its own ``health`` module, which gathers facts and judges them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import TypeVar

from icebus.schemas.components import ControlState, WorkerState
from icebus.schemas.liveness import GONE, is_gone
from icebus.schemas.programs.logs import printable, shortened
from icebus.schemas.supervision.facts import ProgramFacts, Space

S = TypeVar("S", ControlState, WorkerState)

LITTLE_SPACE = 1 << 30
"""Bytes free below which somebody should look after the disk."""

NO_SPACE = 100 << 20
"""Bytes free below which a database or a journal may fail with its next transaction."""

FEW_FILES = 1000
"""Files that can still be made, below which a journal may not."""

SOON = timedelta(days=30)
"""How long before its end a certificate is warned of."""

CLOCKS_APART = 5.0
"""Seconds that two clocks may differ: the ends of reservations are times of day."""

_ENDS = "ends"


class Severity(IntEnum):
    """How bad it is; the numbers are the exit codes that Nagios and its like expect."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3

    @property
    def word(self) -> str:
        """As it is shown."""
        return self.name.lower()


_BADNESS = (Severity.OK, Severity.WARNING, Severity.UNKNOWN, Severity.CRITICAL)


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        name: of the check, for programs.
        severity: of what was found.
        text: one line, for people; has no secrets.
    """

    name: str
    severity: Severity
    text: str


def ok(name: str, text: str) -> Finding:
    """All is well."""
    return Finding(name, Severity.OK, text)


def warning(name: str, text: str) -> Finding:
    """Somebody should look at it."""
    return Finding(name, Severity.WARNING, text)


def critical(name: str, text: str) -> Finding:
    """It does not do what it is for."""
    return Finding(name, Severity.CRITICAL, text)


def unknown(name: str, text: str) -> Finding:
    """It could not be found out."""
    return Finding(name, Severity.UNKNOWN, text)


@dataclass(frozen=True)
class Verdict:
    """What all checks of a program found.

    Attributes:
        program: such as ``worker lab1``.
        findings: of each check, in the order in which they are shown.
    """

    program: str
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, program: str, findings: Iterable[Finding | None]) -> Verdict:
        """The verdict of those checks that could be made."""
        return cls(program, tuple(each for each in findings if each is not None))

    @property
    def severity(self) -> Severity:
        """Of the worst finding; nothing found is nothing known."""
        found = [each.severity for each in self.findings] or [Severity.UNKNOWN]
        return max(found, key=_BADNESS.index)

    @property
    def line(self) -> str:
        """One line: what is wrong, the worst first, or else what was looked at."""
        wrong = [each for each in self.findings if each.severity is not Severity.OK]
        wrong.sort(key=lambda each: _BADNESS.index(each.severity), reverse=True)
        said = "; ".join(each.text for each in wrong or self.findings) or "nothing was looked at"
        return printable(shortened(f"{self.severity.name} {self.program}: {said}"))

    @property
    def document(self) -> dict[str, object]:
        """For programs."""
        return {
            "program": self.program,
            "status": self.severity.word,
            "code": int(self.severity),
            "line": self.line,
            "checks": [
                {"name": each.name, "status": each.severity.word, "text": printable(each.text)}
                for each in self.findings
            ],
        }


def judge_space(space: Space) -> Finding:
    """The disk that a program writes to."""
    name, where = "disk", space.path
    if space.problem:
        return unknown(name, f"can't look at the disk of {where}: {space.problem}")
    shown = f"{space.free / (1 << 30):.1f} GiB free at {where}"
    if space.free < NO_SPACE:
        return critical(name, f"the disk is full: {shown}")
    if space.files is not None and space.files < FEW_FILES:
        return critical(name, f"only {space.files} more files can be made at {where}")
    if space.free < LITTLE_SPACE:
        return warning(name, f"little space: {shown}")
    return ok(name, shown)


def judge_certificate(what: str, ends: float | None, now: float) -> Finding | None:
    """A certificate that ends.

    Args:
        what: whose it is, such as ``the broker's certificate``.
        ends: as seconds since 1970; None where there is none.
        now: likewise.

    Returns:
        None where there is none.
    """
    if ends is None:
        return None
    day = f"{datetime.fromtimestamp(ends, UTC):%Y-%m-%d}"
    if ends <= now:
        return critical("certificate", f"{what} ended on {day}")
    if ends <= now + SOON.total_seconds():
        return warning("certificate", f"{what} {_ENDS} on {day}")
    return ok("certificate", f"{what} {_ENDS} on {day}")


def judge_presence(broker: str, state: S | None, there: Callable[[S], Finding]) -> Finding:
    """Whether a component runs, by what the broker has of it.

    Args:
        broker: why the broker could not be asked; empty when it was.
        state: what it has; None for nothing.
        there: judges one that runs.
    """
    if broker:
        return critical("broker", broker)
    if state is None:
        return critical("running", "it is not running: the broker has nothing of it")
    if is_gone(state):
        return critical("running", f"it is not running: it {GONE[state.state]}")
    return there(state)


def judge_clock(now: float, installed: float, other: tuple[str, float] | None = None) -> Finding:
    """This machine's clock.

    Args:
        now: what it shows, as seconds since 1970.
        installed: when this program was installed, which can't be in the future.
        other: whose clock is known besides, and what that shows.
    """
    if now < installed - 86_400:
        day = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d}"
        return critical("clock", f"this machine's clock is wrong: it shows {day}")
    if other is not None and abs(other[1] - now) > CLOCKS_APART:
        apart = abs(other[1] - now)
        return warning(
            "clock", f"this machine's clock and that of {other[0]} are {apart:.0f} s apart"
        )
    return ok("clock", "the clock is plausible")


def judge_surroundings(
    facts: ProgramFacts, own: str, other: tuple[str, float] | None = None
) -> tuple[Finding | None, ...]:
    """What every program depends on: its disk, certificates, the clock.

    Args:
        facts: of the program.
        own: what its own certificate is called.
        other: as for :func:`judge_clock`.
    """
    return (
        None if facts.space is None else judge_space(facts.space),
        judge_certificate("the broker's certificate", facts.broker_ends, facts.now),
        judge_certificate(own, facts.own_ends, facts.now),
        judge_clock(facts.now, facts.installed, other),
    )
