"""Waits for what should come within milliseconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from icebus.schemas.deadline import Deadline

T = TypeVar("T")

TIMEOUT = 30.0
"""Seconds a test waits for what should come within milliseconds."""


def eventually(get: Callable[[], T], what: str = "it") -> T:
    """What ``get`` gives once that is true."""
    deadline = Deadline.after(TIMEOUT)
    while not (value := get()):
        if deadline.expired:
            raise AssertionError(f"{what} did not come true")
        time.sleep(0.002)
    return value
