"""When evaluations were queued, sent, uploaded, configured, measured and delivered. Pure.

A worker tells how long each part took and when it had the outcome; from there the moments are
counted back. They are by the worker's clock, but for the delivery, which is by the client's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

PARTS: Final = ("queued", "upload", "waited", "window")
"""Seconds that a row tells, in their order; they end at its ``at``."""

LONGEST: Final = 10_000_000.0
"""Seconds of a part; more than a hundred days is no measurement."""

EARLIEST: Final = 86_400.0
"""Seconds since 1970 before which no moment of a farm lies."""


class NoTimelineError(ValueError):
    """A row tells no times, or wrong ones; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Moments:
    """One evaluation in time: seconds since 1970; None for what is not known of it.

    Attributes:
        serial: of the board; empty where none has tried.
        bitstream: the file's name.
        evaluation: its id.
        failed: the code of its failure; empty for a result.
        queued: when its worker accepted it.
        sent: when the first byte was sent to the board.
        uploaded: when the board had all.
        begun: when the board began with it.
        configured: when its FPGA was configured.
        measured: when the worker had the outcome.
        delivered: when the client had it.
    """

    serial: str
    bitstream: str
    evaluation: str
    failed: str
    queued: float | None
    sent: float | None
    uploaded: float | None
    begun: float | None
    configured: float | None
    measured: float
    delivered: float | None

    def row(self) -> dict[str, Any]:
        """For programs."""
        moments = ("queued", "sent", "uploaded", "begun", "configured", "measured", "delivered")
        return {
            "serial": self.serial or None,
            "bitstream": self.bitstream,
            "evaluation": self.evaluation,
            "error": self.failed or None,
            **{name: _iso(getattr(self, name)) for name in moments},
        }


def moments_of(row: Mapping[str, Any]) -> Moments:
    """The moments of an outcome, as ``icebus evaluate -o jsonl`` prints it.

    Raises:
        NoTimelineError: it does not tell them.
    """
    at = _moment(row, "at")
    if at is None:
        raise NoTimelineError(
            "it does not say when it was measured; evaluate with this version of icebus"
        )
    queued, upload, waited, window = (_seconds(row, name) for name in PARTS)
    configuring = _seconds(row, "configured")
    error = row.get("error")
    failed = str(error.get("code", "failed")) if isinstance(error, Mapping) else ""
    begun = None if window is None else at - window
    uploaded = None if begun is None else begun - (waited or 0.0)
    sent = None if uploaded is None or upload is None else uploaded - upload
    before = at if failed else sent
    return Moments(
        serial=_text(row, "serial"),
        bitstream=_text(row, "bitstream"),
        evaluation=_text(row, "evaluation"),
        failed=failed or ("failed" if error else ""),
        queued=None if queued is None or before is None else before - queued,
        sent=sent,
        uploaded=uploaded,
        begun=begun,
        configured=None if begun is None or configuring is None else min(at, begun + configuring),
        measured=at,
        delivered=_moment(row, "delivered"),
    )


def read_rows(lines: Iterable[str]) -> Iterator[Moments]:
    """The moments of outcomes in JSON lines, or in the lines of one JSON array.

    Raises:
        NoTimelineError: a line is no outcome; it says which.
    """
    rest = iter(enumerate(lines, start=1))
    for number, line in rest:
        if not line.strip():
            continue
        if line.lstrip().startswith("["):
            text = line + "".join(each for _, each in rest)
            for place, row in enumerate(_array(text), start=1):
                yield _read(row, f"outcome {place}")
            return
        yield _read(_json(line, f"line {number}"), f"line {number}")


def _read(row: Any, where: str) -> Moments:
    if not isinstance(row, dict):
        raise NoTimelineError(f"{where} is no outcome of an evaluation")
    try:
        return moments_of(row)
    except NoTimelineError as error:
        raise NoTimelineError(f"{where}: {error}") from None


def _array(text: str) -> list[Any]:
    found = _json(text, "the file")
    if not isinstance(found, list):
        raise NoTimelineError("the file is no list of outcomes")
    return found


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise NoTimelineError(
            f"{where} is not JSON; give what `icebus evaluate -o jsonl` or -o json printed"
        ) from None


def _seconds(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value <= LONGEST:
        raise NoTimelineError(f"{name} is no number of seconds")
    return float(value)


def _moment(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
        seconds = moment.timestamp() if moment.tzinfo is not None else math.nan
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not seconds > EARLIEST + LONGEST:
        raise NoTimelineError(f"{name} is no moment with a time zone")
    return seconds


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""


def _iso(moment: float | None) -> str | None:
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")


# --- boards ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BoardUse:
    """What a board did from its first evaluation to its last.

    Attributes:
        serial: of the board.
        evaluations: how many ended on it.
        failures: how many of them have no result.
        seconds: from when it was first sent anything to its last outcome.
        measuring: part of these in which it measured, 0 to 1.
        configuring: likewise, configured its FPGA.
        idle: likewise, did neither.
        longest_idle: seconds of the longest gap.
        queued: seconds that half of its evaluations waited at most at the worker; None if unknown.
        delivery: seconds until half of the outcomes were with the client; None if unknown.
    """

    serial: str
    evaluations: int
    failures: int
    seconds: float
    measuring: float
    configuring: float
    idle: float
    longest_idle: float
    queued: float | None
    delivery: float | None


def board_uses(evaluations: Iterable[Moments]) -> list[BoardUse]:
    """What each board did, by serial; of what no board has tried, nothing is told."""
    by_board: dict[str, list[Moments]] = {}
    for each in evaluations:
        if each.serial:
            by_board.setdefault(each.serial, []).append(each)
    return [_use(serial, found) for serial, found in sorted(by_board.items())]


def _use(serial: str, found: Sequence[Moments]) -> BoardUse:
    first = min(_first(each) for each in found)
    last = max(each.measured for each in found)
    busy = union((each.begun, each.measured) for each in found if each.begun is not None)
    configuring = union(
        (each.begun, each.configured)
        for each in found
        if each.begun is not None and each.configured is not None
    )
    seconds = last - first
    at_work, configured = length(busy), length(configuring)

    def part(of: float) -> float:
        return of / seconds if seconds else 0.0

    return BoardUse(
        serial=serial,
        evaluations=len(found),
        failures=sum(bool(each.failed) for each in found),
        seconds=seconds,
        measuring=part(at_work - configured),
        configuring=part(configured),
        idle=part(seconds - at_work),
        longest_idle=max((end - start for start, end in gaps(busy, first, last)), default=0.0),
        queued=_median([e.sent - e.queued for e in found if e.sent and e.queued]),
        delivery=_median([e.delivered - e.measured for e in found if e.delivered is not None]),
    )


def _first(each: Moments) -> float:
    known = (each.sent, each.uploaded, each.begun)
    return next((moment for moment in known if moment is not None), each.measured)


Interval = tuple[float, float]


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same times as intervals that lie apart, in order."""
    found: list[Interval] = []
    for start, end in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def length(intervals: Iterable[Interval]) -> float:
    """Seconds of intervals that lie apart."""
    return sum(end - start for start, end in intervals)


def gaps(apart: Sequence[Interval], first: float, last: float) -> list[Interval]:
    """What lies between intervals, from ``first`` to ``last``."""
    edges = [first, *(moment for each in apart for moment in each), last]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [(start, end) for start, end in pairs if end > start]


def _median(values: list[float]) -> float | None:
    if not values:
        return None
    ordered = sorted(values)
    return ordered[len(ordered) // 2]
