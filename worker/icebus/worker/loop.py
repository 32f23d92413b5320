"""The event loop of one thread: descriptors, timers and an inbox. Nothing on it may block."""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable

from icebus.schemas.deadline import Deadline

log = logging.getLogger(__name__)

Callback = Callable[[], None]

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class Timer:
    """A callback that will run once, unless cancelled before."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """Never run it."""
        self.callback = None


class Loop:
    """A thread that waits for descriptors, timers and posted callbacks, and runs them in turn.

    Only :meth:`post`, :meth:`start` and :meth:`stop` may be used from other threads.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._selector.register(self._wake_read, READ, self._drain)
        self._inbox: deque[Callback] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def post(self, callback: Callback) -> None:
        """Run ``callback`` on the loop soon; from any thread, in order."""
        self._inbox.append(callback)
        try:
            os.write(self._wake_write, b"\0")
        except (BlockingIOError, OSError):
            return  # a full pipe wakes as well; a closed one means that the loop has ended

    def stop(self, deadline: Deadline) -> bool:
        """End the loop after what is posted by now; False if it did not end in time."""
        self.post(self._finish)
        if threading.current_thread() is self._thread:
            return True
        self._thread.join(deadline.remaining)
        return not self._thread.is_alive()

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        """Run ``callback`` on the loop in ``seconds``."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def watch(self, descriptor: int, events: int, callback: Callable[[int], None]) -> None:
        """Call ``callback`` with the ready events whenever ``descriptor`` has any of ``events``."""
        if descriptor in self._selector.get_map():
            self._selector.modify(descriptor, events, callback)
        else:
            self._selector.register(descriptor, events, callback)

    def unwatch(self, descriptor: int) -> None:
        """Forget ``descriptor``."""
        if descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)

    def _run(self) -> None:
        while not self._stopping:
            for key, events in self._selector.select(self._wait()):
                callback: Callable[[int], None] = key.data
                self._guard(lambda callback=callback, events=events: callback(events))  # type: ignore[misc]
            while self._inbox:
                self._guard(self._inbox.popleft())
            while self._timers and self._timers[0][0] <= time.monotonic():
                timer = heapq.heappop(self._timers)[2]
                if timer.callback is not None:
                    self._guard(timer.callback)
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _wait(self) -> float | None:
        if self._inbox:
            return 0
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    @staticmethod
    def _guard(callback: Callback) -> None:
        try:
            callback()
        except Exception:
            log.exception("a step of the loop failed")

    def _drain(self, _events: int) -> None:
        try:
            while os.read(self._wake_read, 4096):
                pass
        except BlockingIOError:
            return

    def _finish(self) -> None:
        self._stopping = True
