"""A client's session with the farm, for asyncio."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar
from weakref import WeakSet

from icebus.client._async.calls import Calls
from icebus.client._async.methods import Twin, awaited, opened
from icebus.client._connection.hook_runner import Hook
from icebus.client._handlers import EventHandler
from icebus.client._session import CLOSE_TIMEOUT, CONNECT_TIMEOUT, Session, check_event
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import ClientClosed, InvalidRequest
from icebus.schemas.programs.logs import printable
from icebus.schemas.shown import html_values

F = TypeVar("F", bound=Hook)


class AsyncSession(Twin):
    """What needs no reservation: :class:`Session`, for asyncio.

    It connects when it is entered, or when it is first asked something. Leave its block or
    ``await client.close()`` to have boards released and threads ended.

    Attributes:
        twin: the class of the sync client whose calls it makes.
    """

    twin: ClassVar[type[Session]] = Session

    def __init__(
        self,
        url: str | None = None,
        *,
        farm: str | Path | None = None,
        handlers: Sequence[EventHandler] = (),
        timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        super().__init__(Calls(type(self).__name__))
        self._make: Callable[[], Session] = lambda: self.twin(url, farm=farm, timeout=timeout)
        self._session: Session | None = None
        self._connecting = threading.Lock()
        self._closed = False
        self._opened = WeakSet[Twin]()
        self._hooks: list[Callable[[Session], object]] = []
        for handler in handlers:
            self.register(handler)

    # --- connecting ---------------------------------------------------------------------------

    def _sync(self) -> Any:
        with self._connecting:
            if self._closed:
                raise ClientClosed("this client is closed; make a new one")
            if self._session is None:
                made = self._make()
                for hook in self._hooks:
                    hook(made)
                self._session = made
            return self._session

    def _sync_now(self) -> Any:
        if self._session is None:
            raise InvalidRequest(
                "this client is not connected yet: `async with` does that, or `await "
                "client.connect()`"
            )
        return self._session

    async def connect(self) -> Self:
        """Connect now, if that is not done yet.

        Raises:
            NoProfile: nothing names a farm.
            BrokerUnavailable: nothing answers there.
            NotAuthorized: the broker refused the user or password.
        """
        await self._calls.run(self._sync)
        return self

    @property
    def kind(self) -> str:
        """What is reserved unless a call says otherwise; empty for none."""
        return (self._session or self.twin).kind

    @property
    def events(self) -> frozenset[str]:
        """Names that :meth:`on` takes; empty for any."""
        return self.twin.events

    @property
    def user(self) -> str:
        """Who we are."""
        user: str = self._sync_now().user
        return user

    @property
    def id(self) -> str:
        """The id of this client, which attached reservations name."""
        client: str = self._sync_now().id
        return client

    @property
    def observes(self) -> bool:
        """Whether this user turned out to be an observer, who may ask nobody anything."""
        return self._session is not None and self._session.observes

    # --- events -------------------------------------------------------------------------------

    def register(self, handler: EventHandler) -> None:
        """Have a handler's hooks called, on the event loop; they may be coroutine functions.

        Raises:
            InvalidRequest: it is no handler.
        """
        if not isinstance(handler, EventHandler):
            raise InvalidRequest(
                f"a handler is an object of a class of EventHandler, not {handler!r}"
            )
        on_loop = _OnLoop(handler, self._calls)
        self._add_hook(lambda session: session.register(on_loop))

    def on(self, event: str) -> Callable[[F], F]:
        """Register a function for an event, called on the event loop; it may be a coroutine's.

        >>> @client.on("results")  # doctest: +SKIP
        ... async def show(result): print(result.pulses)

        Raises:
            InvalidRequest: this client has no such event.
        """
        check_event(self.events, event)

        def register(function: F) -> F:
            if not callable(function):
                raise InvalidRequest(
                    f"a function is called for an event, not {type(function).__name__}"
                )
            self._add_hook(lambda session: session.on(event)(self._calls.on_loop(function)))
            return function

        return register

    def _add_hook(self, hook: Callable[[Session], object]) -> None:
        if self._closed:
            raise ClientClosed("this client is closed; make a new one")
        with self._connecting:
            self._hooks.append(hook)
            if self._session is not None:
                hook(self._session)

    # --- the farm -----------------------------------------------------------------------------

    devices = awaited(Session.devices)
    reservations = awaited(Session.reservations)
    available = awaited(Session.available)
    history = awaited(Session.history)
    watch = opened(Session.watch)
    logs = opened(Session.logs)

    # --- life ---------------------------------------------------------------------------------

    async def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Release what is attached to this client, and end its connection.

        Whoever waits for something of it is told that it is closed.
        """
        self._closed = True
        self._calls.interrupt()
        await self._close_streams()
        for each in list(self._opened):
            await each._close_streams()
        await self._calls.finish(lambda: self._end(timeout))
        self._calls.close(Deadline.after(0))

    def _end(self, timeout: float) -> None:
        with self._connecting:
            if self._session is not None:
                self._session.close(timeout)

    @property
    def summary(self) -> str:
        """Who we are and where, for people."""
        return "not connected yet" if self._session is None else self._session.summary

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {printable(self.summary)}>"

    def _repr_html_(self) -> str:
        """Who we are and where, for notebooks."""
        if self._session is None:
            return html_values(f"{type(self).__name__} {self.summary}", [])
        return self._session._repr_html_()

    async def __aenter__(self) -> Self:
        try:
            return await self.connect()
        except BaseException:
            await self.close()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class _OnLoop(EventHandler):
    """A handler's hooks, called on the event loop."""

    def __init__(self, handler: EventHandler, calls: Calls) -> None:
        self._handler = handler
        self._calls = calls

    def hook(self, event: str) -> Callable[[Any], object] | None:
        """The handler's hook."""
        hook = self._handler.hook(event)
        return None if hook is None else self._calls.on_loop(hook)
