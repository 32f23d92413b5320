"""Steps of a device that may block, on threads of their own."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from icebus.worker.loop import Callback, Loop

T = TypeVar("T")

PREFIX = "board-"
"""Of the names of a device's threads; its own follows."""

MOST_AT_ONCE = 3
"""Steps of one device under way at most. A driver that hangs never gives its thread back, and a
device that is tried again for days must not use up all there are."""


class HelperThreads:
    """Runs what may block for one device. Used on its loop.

    Args:
        loop: that learns how a step ended.
        name: of the threads.
    """

    def __init__(self, loop: Loop, name: str) -> None:
        self._loop = loop
        self.name = name
        self._busy = 0

    def run(
        self,
        step: Callable[[], T],
        then: Callable[[T], None],
        otherwise: Callable[[Exception], None],
    ) -> None:
        """Run ``step`` on a thread; on the loop, ``then`` gets its result or ``otherwise`` why not.

        There is no deadline: a driver can't be made to return. Whoever waits sets an alarm.
        """
        if self._busy >= MOST_AT_ONCE:
            hang = OSError(errno.EBUSY, f"{MOST_AT_ONCE} calls of its driver hang; unplug it")
            self._loop.post(partial(otherwise, hang))
            return
        self._busy += 1

        def work() -> None:
            try:
                report = partial(then, step())
            except Exception as error:  # noqa: BLE001 - whoever waits learns it, whatever it is
                report = partial(otherwise, error)
            except SystemExit as error:  # raised by code of a package
                report = partial(otherwise, RuntimeError(repr(error)))
            self._loop.post(partial(self._done, report))

        self._loop.offload(work, self.name)

    def _done(self, report: Callback) -> None:
        self._busy -= 1
        report()
