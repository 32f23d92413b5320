"""Ending the waits of a thread from another one, as Ctrl-C ends those of the main thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Interrupted(BaseException):
    """Whoever wanted what this thread waits for has given it up.

    No :class:`Exception`, for the same reason as :class:`KeyboardInterrupt`: what is under way is
    to be cleaned up, and not to be tried again.
    """


class Interruption:
    """Ends a wait of the thread that runs something, once; what cleans up then may wait again.

    Only waits by the functions of this module end; what computes goes on until it waits.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = False
        self._wake: Callable[[], object] | None = None

    def interrupt(self) -> None:
        """Have the thread that runs something stop waiting. Any thread may ask."""
        with self._lock:
            self._wanted = True
            wake = self._wake
        if wake is not None:
            wake()

    def run(self, function: Callable[[], T]) -> T:
        """Run something on this thread that may be interrupted.

        Raises:
            Interrupted: it was, while it waited.
        """
        before = getattr(_current, "interruption", None)
        _current.interruption = self
        try:
            return function()
        finally:
            _current.interruption = before

    @contextmanager
    def waking(self, wake: Callable[[], object]) -> Iterator[None]:
        """A wait that ``wake``, which any thread may call, ends."""
        with self._lock:
            self._raise_if_wanted()
            self._wake = wake
        try:
            yield
        finally:
            with self._lock:
                self._wake = None
        with self._lock:
            self._raise_if_wanted()

    def _raise_if_wanted(self) -> None:
        if self._wanted:
            self._wanted = False
            raise Interrupted


_current = threading.local()


def is_interruptible() -> bool:
    """Whether what this thread runs may be interrupted."""
    return getattr(_current, "interruption", None) is not None


@contextmanager
def interruptible(wake: Callable[[], object]) -> Iterator[None]:
    """A wait of this thread, which ``wake`` ends.

    Raises:
        Interrupted: whoever wanted this has given it up.
    """
    interruption: Interruption | None = getattr(_current, "interruption", None)
    if interruption is None:
        yield
        return
    with interruption.waking(wake):
        yield


def wait_on(condition: threading.Condition, timeout: float) -> bool:
    """``condition.wait(timeout)``, by whoever has its lock; whether it was notified in time.

    Raises:
        Interrupted: whoever wanted this has given it up.
    """

    def wake() -> None:
        with condition:
            condition.notify_all()

    with interruptible(wake):
        return condition.wait(timeout)


def sleep(seconds: float) -> None:
    """Let time pass.

    Raises:
        Interrupted: whoever wanted this has given it up.
    """
    if not is_interruptible():
        time.sleep(seconds)
        return
    woken = threading.Event()
    with interruptible(woken.set):
        woken.wait(seconds)
