"""Single keys of a terminal, while it shows something that changes."""

from __future__ import annotations

import os
import re
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Pressed = Callable[[float], str]

_SEQUENCE = re.compile(r"\x1b(?:[\[O][0-9;?]*[ -/]*[@-~]?|.)?")
"""What a terminal sends for a key that has no letter of its own; cut off at the end, perhaps."""

_SLEEP = 0.2
"""Seconds at a time that are waited without a terminal: signals end it in between."""


@contextmanager
def keys() -> Iterator[Pressed]:
    """While the block runs, keys come at once and are not shown.

    The function given waits so many seconds at most for keys: it returns those that have come.
    Without a terminal on stdin there are none.
    """
    if not sys.stdin.isatty():
        yield _no_key
        return
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal)
        yield lambda seconds: _wait(terminal, seconds)
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _wait(terminal: int, seconds: float) -> str:
    ready, _, _ = select.select([terminal], [], [], seconds)
    return letters(os.read(terminal, 1024).decode(errors="replace")) if ready else ""


def letters(typed: str) -> str:
    """What was typed without arrows and the like, whose letters are nobody's."""
    return _SEQUENCE.sub("", typed)


def _no_key(seconds: float) -> str:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _SLEEP))
    return ""
