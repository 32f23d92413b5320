"""The rack's one thread: an edge-triggered epoll, timers, and callbacks from other threads."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import os
import select
import time
from collections import deque
from typing import TYPE_CHECKING

from icebus.schemas.programs.signals import HEED

if TYPE_CHECKING:
    from collections.abc import Callable

_LOG = logging.getLogger(__name__)


class Timer:
    """A callback that is due at a time; :meth:`cancel` it when it isn't wanted any more."""

    __slots__ = ("_callback", "deadline")

    def __init__(self, deadline: float, callback: Callable[[], None]) -> None:
        self.deadline = deadline
        self._callback: Callable[[], None] | None = callback

    @property
    def cancelled(self) -> bool:
        """Whether it will not call back (any more)."""
        return self._callback is None

    def cancel(self) -> None:
        """Never call back."""
        self._callback = None

    def fire(self) -> None:
        """Call back, once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Loop:
    """Runs callbacks on the thread that calls :meth:`run`, until :meth:`stop`.

    Only :meth:`call_threadsafe` and :meth:`stop` may be called from other threads. A callback that
    raises is logged: one board's trouble is not the others'.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._ready: deque[Callable[[], None]] = deque()
        self._from_threads: deque[Callable[[], None]] = deque()
        self._stopping = False

    @staticmethod
    def now() -> float:
        """The loop's clock, in seconds."""
        return time.monotonic()

    def register(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """Call ``handler`` with the events of ``fd``."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def watch_for(self, fd: int, events: int) -> None:
        """Call the handler of ``fd`` with other events from now on."""
        self._epoll.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """Forget ``fd``; to be called before it is closed."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_at(self, deadline: float, callback: Callable[[], None]) -> Timer:
        """Call back once the clock shows ``deadline``."""
        timer = Timer(deadline, callback)
        heapq.heappush(self._timers, (deadline, next(self._order), timer))
        return timer

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call back after what is already due."""
        self._ready.append(callback)

    def call_threadsafe(self, callback: Callable[[], None]) -> None:
        """Call back on the loop's thread; from any thread, also after the loop has ended."""
        self._from_threads.append(callback)
        with contextlib.suppress(OSError, ValueError):
            os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """Make :meth:`run` return; from any thread or signal handler."""
        self._stopping = True
        with contextlib.suppress(OSError, ValueError):
            os.eventfd_write(self._wake, 1)

    def run(self) -> None:
        """Run until :meth:`stop`."""
        while not self._stopping:
            for fd, events in self._wait():
                if fd == self._wake:
                    with contextlib.suppress(BlockingIOError):
                        os.eventfd_read(self._wake)
                elif (handler := self._handlers.get(fd)) is not None:
                    self._call(handler, events)
            self._run_timers()
            for queue in (self._from_threads, self._ready):
                for _ in range(len(queue)):
                    self._call(queue.popleft())

    def close(self) -> None:
        """Free what the loop holds; it must not be running."""
        self._epoll.close()
        os.close(self._wake)
        self._wake = -1

    def _wait(self) -> list[tuple[int, int]]:
        timeout: float | None = None
        if self._ready or self._from_threads:
            timeout = 0.0
        elif self._next_timer():
            timeout = max(0.0, self._timers[0][0] - time.monotonic())
        if timeout is None:
            return self._epoll.poll(HEED)
        # epoll waits in whole milliseconds; a measurement window has to end on time.
        if timeout > 0.0 and not select.select([self._epoll], [], [], timeout)[0]:
            return []
        return self._epoll.poll(0)

    def _next_timer(self) -> bool:
        timers = self._timers
        while timers and timers[0][2].cancelled:
            heapq.heappop(timers)
        return bool(timers)

    def _run_timers(self) -> None:
        timers = self._timers
        if not timers:
            return
        now = time.monotonic()
        while timers and timers[0][0] <= now:
            self._call(heapq.heappop(timers)[2].fire)

    @staticmethod
    def _call(callback: Callable[..., None], *args: int) -> None:
        try:
            callback(*args)
        except (Exception, SystemExit):  # noqa: BLE001 (logged; the loop serves other boards)
            _LOG.exception("a callback failed")
