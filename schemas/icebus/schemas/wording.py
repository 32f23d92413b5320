"""How texts for people count things."""

from __future__ import annotations

import re

KINDS_AT_START = (
    "a kind is found when its package is installed where the worker runs, and the worker was "
    "started after that: restart it after an installation"
)
"""Said where a kind is not offered, which nobody expects right after installing it."""

_PLAIN: tuple[tuple[str, str], ...] = (
    (
        r"String should match pattern '\^\[A-Za-z0-9_-\]\{1,64\}\$'",
        "must be 1 to 64 letters, digits, _ or -",
    ),
    (r"String should match pattern", "must match"),
    (
        r"(?:String|List|Dictionary|Bytes|Data) should have at least 1 (?:item|character|byte)s?.*",
        "must not be empty",
    ),
    (
        r"(?:String|List|Dictionary|Bytes|Data) should have (at (?:least|most) \d+ \w+).*",
        r"must have \1",
    ),
    (r"Input should be a valid integer, got a number with a fractional part", "must be an integer"),
    (r"Input should be a valid (?:integer|int)\b.*", "must be an integer"),
    (r"Input should be a valid (?:number|decimal|float)\b.*", "must be a number"),
    (r"Input should be a finite number", "must be a finite number"),
    (r"Input should be a valid string.*", "must be text"),
    (r"Input should be a valid boolean.*", "must be true or false"),
    (r"Input should be a valid (?:list|array|tuple).*", "must be a list"),
    (
        r"Input should be a valid (?:dictionary|dict|object|mapping).*",
        "must be an object of names and values",
    ),
    (r"Input should be a valid datetime.*", "must be a date and time such as 2026-11-28T07:45:00Z"),
    (r"Input should be greater than or equal to (\S+)", r"must be at least \1"),
    (r"Input should be less than or equal to (\S+)", r"must be at most \1"),
    (r"Input should be greater than (\S+)", r"must be more than \1"),
    (r"Input should be less than (\S+)", r"must be less than \1"),
    (r"Input should (?:be|have) ", "must be "),
    (r"Field required", "is missing"),
    (r"Extra inputs are not permitted", "is not known here"),
    (r"(?:Value|Assertion) error, ", ""),
)
"""What validators say, which speak to programmers, and what people read instead."""


def plain_problem(text: str) -> str:
    """What is wrong with a value, for people, from what a validator says of it.

    >>> plain_problem("Input should be greater than or equal to 1")
    'must be at least 1'
    >>> plain_problem("Field required")
    'is missing'
    """
    for said, plain in _PLAIN:
        text, found = re.subn(said, plain, text)
        if found:
            break
    return text


def wrong_value(name: str, problem: str) -> str:
    """That a value is wrong, in a sentence.

    >>> wrong_value("count", "must be at least 1"), wrong_value("boards", "name a port")
    ('count must be at least 1', 'boards: name a port')
    """
    if not name:
        return problem
    return f"{name} {problem}" if problem.startswith(("must ", "is ")) else f"{name}: {problem}"


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


_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def show_duration(seconds: float) -> str:
    """A duration for people, in its two largest units.

    >>> show_duration(3720), show_duration(0.2)
    ('1h2m', '0s')
    """
    left = max(0, round(seconds))
    parts = []
    for unit, size in _UNITS.items():
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2]) or "0s"


def counted(number: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "device"), counted(2, "device")
    ('1 device', '2 devices')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def said_of(name: str, message: str, *, prefixed_with: str = "") -> str:
    """A message, with the name of what it is about in front unless it has that already.

    Args:
        name: of what it is about.
        message: what is said of it.
        prefixed_with: what the message may begin with that says the same.

    >>> said_of("a.bin on B1", "a.bin: too short", prefixed_with="a.bin")
    'a.bin on B1: too short'
    >>> said_of("B1", "B1 is held by ben"), said_of("B1", "no answer"), said_of("B", "no device B")
    ('B1 is held by ben', 'B1: no answer', 'no device B')
    """
    rest = message.removeprefix(f"{prefixed_with or name}: ")
    if rest == message and re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", message):
        return message
    return f"{name}: {rest}"
