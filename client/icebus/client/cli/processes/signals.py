"""Waiting for signals and other news on the main thread, without polling."""

from __future__ import annotations

import os
import select
import signal
from collections import deque
from collections.abc import Collection
from types import FrameType, TracebackType
from typing import Any, Self

from icebus.schemas.deadline import Deadline

STOPS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})

PASSED_ON = frozenset({signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2})
"""Signals that would end us and may mean something else to a command that we run."""


class Signals:
    """While open, signals are only noted, and they and the end of a child wake us.

    Args:
        more: signals to note besides SIGINT, SIGTERM and SIGHUP.

    Attributes:
        stop: the signal that asks us to stop; None while none came.
    """

    def __init__(self, more: Collection[signal.Signals] = ()) -> None:
        self.stop: signal.Signals | None = None
        self._noted: deque[signal.Signals] = deque()
        self._handled = [*STOPS, *more, signal.SIGCHLD]
        self._before: dict[int, Any] = {}
        self._reader, self._writer = os.pipe()

    def __enter__(self) -> Self:
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in self._handled:
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # under nohup
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._reader)
        os.close(self._writer)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGCHLD:
            return
        self._noted.append(signal.Signals(number))
        if number in STOPS and self.stop is None:
            self.stop = signal.Signals(number)

    def take(self) -> list[signal.Signals]:
        """The signals that came since this was last asked, in their order."""
        taken = []
        while self._noted:
            taken.append(self._noted.popleft())
        return taken

    def wait(self, deadline: Deadline | None) -> None:
        """Wait for a signal until the deadline; None waits for ever."""
        timeout = None if deadline is None else deadline.remaining
        ready, _, _ = select.select([self._reader], [], [], timeout)
        if ready:
            while _read(self._reader):
                pass


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 512)
    except BlockingIOError:
        return b""
