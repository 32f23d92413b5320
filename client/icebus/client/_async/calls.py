"""Calls of the sync client, awaited: cancelling one ends its wait, and cleans up after it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, TypeVar

from icebus.bus import Interrupted, Interruption
from icebus.client._async.threads import CallThreads
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import ClientClosed

log = logging.getLogger(__name__)

AT_ONCE = 200
"""Calls that wait at a time; more wait for those. Each has a thread."""

CLEANING_UP = 10.0
"""Seconds for a call that was cancelled to clean up: to give up what waits at boards takes 2, to
release boards 5."""

AWAKE = 0.3
"""Seconds between looks at what else the event loop has to do, while all waits for a board."""

T = TypeVar("T")


class Calls:
    """Makes the calls of one client. All but :meth:`on_loop` is for the event loop's thread.

    Args:
        name: of the threads.
    """

    def __init__(self, name: str) -> None:
        self._threads = CallThreads(name)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[Interruption] = set()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._closing: Future[None] = Future()
        self._hooks: set[asyncio.Task[None] | None] = set()

    async def run(
        self,
        function: Callable[[], T],
        *,
        undo: Callable[[T], object] | None = None,
        interruption: Interruption | None = None,
    ) -> T:
        """Make a call. One that is cancelled stops waiting, cleans up, and has ended then.

        Args:
            function: the call.
            undo: called with what it returns if that comes although it was cancelled.
            interruption: with which others may end its wait.

        Raises:
            ClientClosed: it was closed meanwhile.
        """
        self._loop = asyncio.get_running_loop()
        waits = interruption or Interruption()
        async with self._room:
            self._waiting.add(waits)
            made = self._submit(lambda: waits.run(function))
            try:
                return await self._awake(made)
            except Interrupted:
                raise ClientClosed("it was closed while somebody waited for it") from None
            except asyncio.CancelledError:
                waits.interrupt()
                await self._ended(made)
                if undo is not None and not made.cancelled() and made.exception() is None:
                    result = made.result()
                    await self._ended(self._submit(lambda: undo(result)))
                raise
            finally:
                self._waiting.discard(waits)

    async def finish(self, function: Callable[[], T]) -> T:
        """Make a call that cleans up: it is waited for although the task is cancelled meanwhile."""
        self._loop = asyncio.get_running_loop()
        made = self._submit(function)
        try:
            return await self._awake(made)
        except asyncio.CancelledError:
            await self._ended(made)
            raise

    def begin(self, function: Callable[[], object]) -> None:
        """Have something done that nobody waits for; any thread may ask."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._threads.submit, function)
        else:
            self._threads.submit(function)

    def _submit(self, function: Callable[[], T]) -> asyncio.Future[T]:
        made = asyncio.wrap_future(self._threads.submit(function))
        # Whoever was cancelled has no use for how it ended.
        made.add_done_callback(lambda done: done.cancelled() or done.exception())
        return made

    @staticmethod
    async def _awake(made: asyncio.Future[T]) -> T:
        """What a call returns. When the task is cancelled, the call goes on."""
        while not made.done():
            # Jupyter's kernel cancels a cell that is interrupted when its loop next wakes up.
            await asyncio.wait([made], timeout=AWAKE)
        return made.result()

    async def _ended(self, made: asyncio.Future[Any]) -> None:
        """Wait until a call has ended, whatever becomes of the task meanwhile."""
        deadline = Deadline.after(CLEANING_UP)
        while not made.done() and not deadline.expired:
            try:
                await asyncio.wait([made], timeout=deadline.remaining)
            except asyncio.CancelledError:
                continue  # the first one is raised in the end
        if not made.done():
            log.warning("a call that was cancelled goes on: it waits for something of the caller's")

    def on_loop(self, function: Callable[[Any], object]) -> Callable[[Any], None]:
        """A hook for the sync client, of a function for the loop: plain, or a coroutine's.

        It is called on the loop, and the next one once it has ended.
        """

        async def call(data: object) -> None:
            task = asyncio.current_task()
            self._hooks.add(task)
            try:
                result = function(data)
                if inspect.isawaitable(result):
                    await result
            finally:
                self._hooks.discard(task)

        def hook(data: object) -> None:
            loop = self._loop
            if loop is None or not loop.is_running():
                log.info("an event comes when the event loop runs no more")
                return
            called = asyncio.run_coroutine_threadsafe(call(data), loop)
            wait([called, self._closing], return_when=FIRST_COMPLETED)
            if called.done():
                called.result()

        return hook

    def interrupt(self) -> None:
        """End all waits but those that clean up, as when the client is to be closed."""
        if asyncio.current_task() in self._hooks and not self._closing.done():
            self._closing.set_result(None)  # or it would wait for itself
        for interruption in list(self._waiting):
            interruption.interrupt()

    def close(self, deadline: Deadline) -> None:
        """End all threads; blocks until then."""
        if not self._closing.done():
            self._closing.set_result(None)
        self._threads.close(deadline)
