"""What an iterator of the sync client yields, for ``async for``."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, Self, TypeVar

from icebus.bus import Interruption
from icebus.client._async.calls import CLEANING_UP, Calls
from icebus.schemas.errors import ClientClosed, InvalidRequest

_END: Final[Any] = object()

_HOW = (
    "what an async client yields is iterated over with `async for`, or taken as a list by "
    "[each async for each in …]"
)

T_co = TypeVar("T_co", covariant=True)


class Source(Protocol[T_co]):
    """An iterator that is to be closed, such as a generator."""

    def __next__(self) -> T_co:
        """What comes next."""

    def close(self) -> None:
        """End it."""


class Stream(AsyncIterator[T_co]):
    """Outcomes as they come. Each is waited for when it is asked for, so none piles up here.

    A loop over it that is left, by ``break`` or because the task is cancelled, ends the run: what
    waits at boards for it is given up. Where more is to be done before that is certain, close it:
    :meth:`aclose`, or ``async with boards.evaluate(…) as results``.

    Args:
        calls: makes the calls.
        begin: gives what is iterated over; called on a thread.
    """

    def __init__(self, calls: Calls, begin: Callable[[], Source[T_co]]) -> None:
        self._calls = calls
        self._begin: Callable[[], Source[T_co]] | None = begin
        self._source: Source[T_co] | None = None
        self._closed_with: str | None = None
        self._waits: Interruption | None = None
        self._at_work = threading.Lock()

    def __aiter__(self) -> Self:
        return self

    if not TYPE_CHECKING:  # type checkers say so themselves

        def __iter__(self) -> NoReturn:
            raise InvalidRequest(_HOW)

        def __await__(self) -> NoReturn:
            raise InvalidRequest(_HOW)

    async def __anext__(self) -> T_co:
        begin = self._begin
        if begin is None:
            if self._closed_with is not None:
                raise ClientClosed(f"{self._closed_with} was closed before this run had ended")
            raise StopAsyncIteration
        if self._waits is not None:
            raise RuntimeError("another task waits for the next outcome of this run already")
        self._waits = Interruption()
        try:
            outcome = await self._calls.run(lambda: self._next(begin), interruption=self._waits)
        except BaseException:
            await self.aclose()
            raise
        finally:
            self._waits = None
        if outcome is _END:
            await self.aclose()
            raise StopAsyncIteration
        taken: T_co = outcome
        return taken

    async def aclose(self) -> None:
        """End the run: what waits at boards for it is given up."""
        if self._begin is None:
            return
        self._begin = None
        if self._waits is not None:
            self._waits.interrupt()  # another task's, perhaps
        await self._calls.finish(self._close)

    async def close_with(self, what: str) -> None:
        """End the run because ``what`` it belongs to is closed; who reads on is told so."""
        if self._begin is not None:
            self._closed_with = what
            await self.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        source = self._source
        if source is not None and self._begin is not None:
            self._calls.begin(source.close)

    # --- on a thread --------------------------------------------------------------------------

    def _next(self, begin: Callable[[], Source[T_co]]) -> Any:
        with self._at_work:
            if self._source is None:
                self._source = begin()
            try:
                return self._source.__next__()
            except StopIteration:  # which no future can carry
                return _END

    def _close(self) -> None:
        if self._at_work.acquire(timeout=CLEANING_UP):
            try:
                if self._source is not None:
                    self._source.close()
            finally:
                self._at_work.release()
