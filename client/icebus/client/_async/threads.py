"""Threads that calls of an event loop are made on; they are kept for the next call."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from icebus.schemas.deadline import Deadline

KEPT = 8
"""Threads that are kept without a call: as many calls as a program makes at once, mostly."""

T = TypeVar("T")

Call = tuple[contextvars.Context, Callable[[], Any], "Future[Any]"]


class CallThreads:
    """Runs calls on threads: each at once, however many wait.

    The threads are daemons: a call that hangs must not keep a program from ending. They take no
    locks of ours, so that a call may be begun while Python collects garbage.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._idle: deque[SimpleQueue[Call | None]] = deque()
        self._all: dict[int, threading.Thread] = {}
        self._closed = False

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Run a function soon, in the caller's context."""
        future: Future[T] = Future()
        call: Call = (contextvars.copy_context(), function, future)
        try:
            inbox = self._idle.pop()
        except IndexError:
            inbox = SimpleQueue()
            threading.Thread(target=self._run, args=(inbox,), name=self._name, daemon=True).start()
        inbox.put(call)
        return future

    def close(self, deadline: Deadline) -> None:
        """End the threads: those that are idle, and others when their call has ended."""
        self._closed = True
        while self._idle:
            self._idle.pop().put(None)
        for thread in list(self._all.values()):
            if thread is not threading.current_thread():
                thread.join(timeout=deadline.remaining)

    def _run(self, inbox: SimpleQueue[Call | None]) -> None:
        me = threading.current_thread()
        self._all[id(me)] = me
        try:
            while (call := inbox.get()) is not None:
                self._make(*call)
                del call  # and all that it holds
                if self._closed or len(self._idle) >= KEPT:
                    return
                self._idle.append(inbox)
                if self._closed:  # meanwhile: nobody may have seen us
                    self.close(Deadline.after(0))
        finally:
            self._all.pop(id(me), None)

    @staticmethod
    def _make(
        context: contextvars.Context, function: Callable[[], Any], future: Future[Any]
    ) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = context.run(function)
        except BaseException as error:  # noqa: BLE001 # whoever waits for it is told
            future.set_exception(error)
        else:
            future.set_result(result)
