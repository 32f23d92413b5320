"""Durations as people write them, and moments as their clock shows them."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, timedelta

from icebus.schemas.wording import show_duration

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = r"(\d+(?:\.\d+)?)([smhd])"
_DURATION = re.compile(rf"(?:{_PART})+")


def parse_duration(text: str) -> float:
    """Seconds in ``90``, ``30s``, ``15m``, ``2h``, ``1h30m`` or ``1d``.

    Raises:
        ValueError: it is none of these, or nothing at all.
    """
    cleaned = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", cleaned):
        seconds = float(cleaned)
    elif _DURATION.fullmatch(cleaned):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, cleaned))
    else:
        raise ValueError(f"{text!r} is no duration: write 90, 30s, 15m, 2h or 1h30m")
    if not 0 < seconds < 1e9:
        raise ValueError(f"{text!r} is no duration anybody can wait for")
    return seconds


def show_until(moment: datetime) -> str:
    """How long it is until then, for people."""
    return show_duration((moment - datetime.now(UTC)).total_seconds())


def ago(seconds: float | None) -> datetime | None:
    """The moment that was so long ago; None for any."""
    return None if seconds is None else datetime.now(UTC) - timedelta(seconds=seconds)


def show_local(at: datetime) -> str:
    """A moment as the clock on the wall shows it."""
    with contextlib.suppress(OverflowError, ValueError):  # on the last day of the calendar
        at = at.astimezone()
    return at.strftime("%Y-%m-%d %H:%M:%S")


def show_local_iso(at: str) -> str:
    """The same, of a moment as JSON has it."""
    return show_local(datetime.fromisoformat(at))
