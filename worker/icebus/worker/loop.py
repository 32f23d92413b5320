"""The event loop of one thread: descriptors, timers and an inbox. Nothing on it may block.

All devices of a worker live on one. A thread for each would have them wait for Python's lock
instead of their boards: with 32 boards a worker spent most of its time switching.
"""

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
from contextlib import AbstractContextManager, nullcontext
from typing import ParamSpec

from icebus.schemas.deadline import Deadline

log = logging.getLogger(__name__)

Callback = Callable[[], None]
P = ParamSpec("P")

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE

SWEEP_FROM = 64
"""Timers kept before the cancelled ones are looked for: most are alarms that never ring."""


class Timer:
    """A callback that will run once, unless cancelled before."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    @property
    def pending(self) -> bool:
        """Whether it is still to run."""
        return self.callback is not None

    def cancel(self) -> None:
        """Never run it."""
        self.callback = None


class Loop:
    """A thread that waits for descriptors, timers and posted callbacks, and runs them in turn.

    Only :meth:`post`, :meth:`start` and :meth:`stop` may be used from other threads. What may block
    goes to a helper thread by :meth:`offload`.

    Args:
        name: of the thread.
        on_crash: called on the thread when it ends although nobody has stopped it.
        turn: entered for all that is run between two waits, so that what it sends goes together.
    """

    def __init__(
        self,
        name: str,
        on_crash: Callable[[str], None] = lambda _why: None,
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._in_turn = turn
        self._on_crash = on_crash
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        self._selector.register(self._wake_read, READ, self._drain)
        self._inbox: deque[Callback] = deque()
        self._wake_lock = threading.Lock()
        self._awake = False
        self._closed = False
        self._helpers: list[threading.Thread] = []
        self._timers: list[tuple[float, int, Timer]] = []
        self._sweep_at = SWEEP_FROM
        self._order = itertools.count()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def post(self, callback: Callback) -> None:
        """Run ``callback`` on the loop soon; from any thread, in order."""
        self._inbox.append(callback)
        if threading.current_thread() is self._thread:
            return  # it looks at its inbox before it waits
        with self._wake_lock:  # the number of a closed pipe may be somebody else's file by now
            if not self._awake and not self._closed:
                self._awake = True
                os.write(self._wake_write, b"\0")

    def stop(self, deadline: Deadline) -> bool:
        """End the loop after what is posted by now; False if it did not end in time."""
        self.post(self._finish)
        if threading.current_thread() is self._thread:
            return True
        ended = True
        for thread in (self._thread, *self._helpers):
            thread.join(deadline.remaining)
            ended = ended and not thread.is_alive()
        return ended

    def offload(self, work: Callback, name: str) -> None:
        """Run what may block on a thread of its own, which has to post what comes of it."""
        helper = threading.Thread(target=self._guard, args=(work,), name=name, daemon=True)
        self._helpers = [*(each for each in self._helpers if each.is_alive()), helper]
        helper.start()

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        """Run ``callback`` on the loop in ``seconds``."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        if len(self._timers) > self._sweep_at:
            self._timers = [entry for entry in self._timers if entry[2].pending]
            heapq.heapify(self._timers)
            self._sweep_at = max(SWEEP_FROM, 2 * len(self._timers))
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
        try:
            while not self._stopping:
                self._turn()
        except BaseException as error:
            log.exception("the loop has ended")
            self._on_crash(f"the loop of {self._thread.name} has ended: {error!r}")
        with self._wake_lock:
            self._closed = True
            self._selector.close()
            os.close(self._wake_read)
            os.close(self._wake_write)

    def _turn(self) -> None:
        ready = self._selector.select(self._wait())
        with self._in_turn():
            self._run_ready(ready)

    def _run_ready(self, ready: list[tuple[selectors.SelectorKey, int]]) -> None:
        for key, events in ready:
            self._guard(key.data, events)
        with self._wake_lock:  # from here on a post is to wake us again
            self._awake = False
        # Only what is there by now: boards and timers must not wait for an endless flow.
        for _ in range(len(self._inbox)):
            self._guard(self._inbox.popleft())
        while self._timers and self._timers[0][0] <= time.monotonic():
            timer = heapq.heappop(self._timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is not None:
                self._guard(callback)

    def _wait(self) -> float | None:
        if self._inbox:
            return 0
        while self._timers and not self._timers[0][2].pending:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    @staticmethod
    def _guard(callback: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except BaseException:  # a package's code that ends "the program" would end all devices
            log.exception("a step of the loop failed")

    def _drain(self, _events: int) -> None:
        os.read(self._wake_read, 64)

    def _finish(self) -> None:
        self._stopping = True
