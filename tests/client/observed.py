"""Waits for what scripted components have observed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

SOON = 10.0
"""Seconds that nothing in these tests takes unless it hangs."""


class Observed:
    """What was observed on other threads, in order, to be waited for."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.seen: list[Any] = []

    def add(self, what: object) -> None:
        with self._condition:
            self.seen.append(what)
            self._condition.notify_all()

    def wait(self, condition: Callable[[list[Any]], bool]) -> list[Any]:
        with self._condition:
            assert self._condition.wait_for(lambda: condition(self.seen), SOON), self.seen
            return list(self.seen)
