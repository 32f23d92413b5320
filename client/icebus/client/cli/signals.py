"""Waiting for signals and other news on the main thread, without polling."""

from __future__ import annotations

import os
import select
import signal
from types import FrameType, TracebackType
from typing import Any, Self

from icebus.schemas.deadline import Deadline

_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)


class Signals:
    """While open, SIGINT, SIGTERM and SIGHUP only set a flag, and the end of a child wakes us.

    Attributes:
        stop: the signal that asks us to stop; None while none came.
    """

    def __init__(self) -> None:
        self.stop: signal.Signals | None = None
        self._before: dict[int, Any] = {}
        self._reader, self._writer = os.pipe()

    def __enter__(self) -> Self:
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in _HANDLED:
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
        if number != signal.SIGCHLD and self.stop is None:
            self.stop = signal.Signals(number)

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
