"""How texts for people count things."""

from __future__ import annotations

KINDS_AT_START = (
    "a kind is found when its package is installed where the worker runs, and the worker was "
    "started after that: restart it after an installation"
)
"""Said where a kind is not offered, which nobody expects right after installing it."""

_HOUR = 3600
_DAY = 24 * _HOUR
_CENTURY = 100 * 366 * _DAY


def lasting(seconds: float) -> str:
    """How long something is, in the largest unit that says it exactly.

    >>> lasting(259200), lasting(86400), lasting(5400), lasting(0.5), lasting(1e300)
    ('3 days', '24 h', '90 min', '0.5 s', 'more than 100 years')
    """
    if seconds > _CENTURY:
        return "more than 100 years"
    if seconds >= 2 * _DAY and seconds % _DAY == 0:
        return counted(round(seconds) // _DAY, "day")
    for size, unit in ((_HOUR, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{round(seconds) // size} {unit}"
    return f"{seconds:g} s"


def counted(number: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "device"), counted(2, "device")
    ('1 device', '2 devices')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
