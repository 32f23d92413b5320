"""Ways to have a method of the sync client in an async one, under its name and with its signature.

>>> class AsyncRateBoards(AsyncMeasuringBoards[RateResult]):  # doctest: +SKIP
...     calibrate = awaited(RateBoards.calibrate)
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakSet

from icebus.client._async.calls import Calls
from icebus.client._async.stream import Source, Stream

PROGRESS = "progress"
"""An option that may be a function of the user's, which is to be called on the event loop."""

P = ParamSpec("P")
T = TypeVar("T")


class Twin(ABC):
    """An object of the async client: it has one of the sync client do what it is asked.

    Args:
        calls: makes calls.
    """

    _closed_as = "this client"

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._streams = WeakSet[Stream[Any]]()

    def _stream(self, begin: Callable[[], Source[T]]) -> Stream[T]:
        stream = Stream(self._calls, begin)
        self._streams.add(stream)
        return stream

    async def _close_streams(self) -> None:
        for stream in list(self._streams):
            await stream.close_with(self._closed_as)

    @abstractmethod
    def _sync(self) -> Any:
        """The sync object; this may block, and is called on a thread."""

    @abstractmethod
    def _sync_now(self) -> Any:
        """The sync object, if there is one yet.

        Raises:
            InvalidRequest: the client is not connected yet.
        """


def awaited(
    function: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """The same method, to be awaited. When the task is cancelled, it stops waiting."""
    name = function.__name__

    async def call(self: Twin, /, *args: P.args, **kwargs: P.kwargs) -> T:
        def run() -> T:
            result: T = getattr(self._sync(), name)(*args, **kwargs)
            return result

        return await self._calls.run(run)

    made: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]] = like(function, call)
    return made


def iterated(
    function: Callable[Concatenate[Any, P], Source[T]],
) -> Callable[Concatenate[Any, P], Stream[T]]:
    """The same method, to be iterated over with ``async for``; it waits for nothing itself."""
    name = function.__name__

    def call(self: Twin, /, *args: P.args, **kwargs: P.kwargs) -> Stream[T]:
        given: dict[str, Any] = kwargs
        if callable(show := given.get(PROGRESS)):
            given = {**given, PROGRESS: self._calls.on_loop(show)}
        source = getattr(self._sync_now(), name)(*args, **given)
        return self._stream(lambda: source)

    made: Callable[Concatenate[Any, P], Stream[T]] = like(function, call)
    return made


def opened(
    function: Callable[Concatenate[Any, P], Source[T]],
) -> Callable[Concatenate[Any, P], Stream[T]]:
    """The same method, to be iterated over with ``async for``, which calls it."""
    name = function.__name__

    def call(self: Twin, /, *args: P.args, **kwargs: P.kwargs) -> Stream[T]:
        return self._stream(lambda: getattr(self._sync(), name)(*args, **kwargs))

    made: Callable[Concatenate[Any, P], Stream[T]] = like(function, call)
    return made


def at_once(
    function: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], T]:
    """The same method, which does not wait for anything."""
    name = function.__name__

    def call(self: Twin, /, *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = getattr(self._sync_now(), name)(*args, **kwargs)
        return result

    made: Callable[Concatenate[Any, P], T] = like(function, call)
    return made


def like(function: Callable[..., Any], call: Any, returns: str = "") -> Any:
    """A function that says of itself what another does, but for what it returns if that is told."""
    call.__name__ = function.__name__
    call.__qualname__ = function.__qualname__
    call.__doc__ = function.__doc__
    signature = inspect.signature(function)
    told = returns or str(signature.return_annotation).replace("Generator[", "Stream[")
    call.__signature__ = signature.replace(return_annotation=told)
    return call
