"""Hours of boards that a user has had in the last week, and when they run out. Pure.

A board that is held counts, whatever it does: nobody else can have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

WEEK = timedelta(days=7)
"""The time that hours are counted over. It ends now, so that nobody waits for a Monday."""

LEAST = 60.0
"""Seconds that must be left for a board to be given: with less it would hardly be made ready."""


@dataclass(frozen=True)
class Use:
    """One board that a user held, or holds.

    Attributes:
        began: when it was given.
        ended: when it was taken back; None while it is held.
    """

    began: datetime
    ended: datetime | None = None


def used(uses: Sequence[Use], now: datetime) -> float:
    """Seconds that boards were held in the week before that moment."""
    total = timedelta()
    for use in uses:
        end = now if use.ended is None else min(use.ended, now)
        total += max(timedelta(), end - max(use.began, now - WEEK))
    return total.total_seconds()


def runs_out(uses: Sequence[Use], limit: float, held: int, now: datetime) -> datetime:
    """When a user who holds so many boards has had as much as he may, at the earliest.

    Args:
        uses: of the user.
        limit: hours that he may have.
        held: how many boards he holds from now on; at least one.
        now: the moment.
    """
    left = max(0.0, limit * 3600 - used(uses, now))
    return now + timedelta(seconds=min(left / held, WEEK.total_seconds()))


def has_left(uses: Sequence[Use], limit: float, number: int, now: datetime) -> bool:
    """Whether a user can have so many boards for a while worth it."""
    return limit * 3600 - used(uses, now) >= LEAST * number


def free_again(uses: Sequence[Use], limit: float, number: int, now: datetime) -> datetime | None:
    """When a user who has nothing any more from now on can have so many boards; None for never."""
    if limit * 3600 < LEAST * number:
        return None
    over = [use if use.ended is not None else Use(use.began, now) for use in uses]
    early, late = now, now + WEEK
    while late - early > timedelta(seconds=1):
        middle = early + (late - early) / 2
        early, late = (early, middle) if has_left(over, limit, number, middle) else (middle, late)
    return late
