"""A client's session with the farm: connected, listening, able to read how things stand."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self, TypeVar

from icebus.client import _listed as listed
from icebus.client import _open_sessions as open_sessions
from icebus.client._available_devices import AvailableDevices
from icebus.client._changes import Changes
from icebus.client._connection import operations
from icebus.client._connection.connection import Connection
from icebus.client._connection.hook_runner import Hook
from icebus.client._farm import retained as retained
from icebus.client._farm.survey import Survey, survey
from icebus.client._handlers import EventHandler, event_names
from icebus.client._logs.lines import Wanted
from icebus.client._logs.stream import LogStream
from icebus.client._profiles.profile import find_address
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import InvalidRequest, NotAuthorized
from icebus.schemas.log_records import RecordLevel
from icebus.schemas.operations import reservations
from icebus.schemas.operations.history import HistoryEntry, HistoryEvent
from icebus.schemas.operations.reservations import KnownDevice
from icebus.schemas.programs.logs import printable
from icebus.schemas.shown import html_values
from icebus.schemas.topics import DEFAULT_ROOT

CONNECT_TIMEOUT = 4.0
"""Seconds for the broker to take us in, which it does within milliseconds: people hear within five
what is the matter."""

CLOSE_TIMEOUT = 5.0
"""Seconds to say farewell."""

F = TypeVar("F", bound=Hook)
T = TypeVar("T")


class Session:
    """What needs no reservation. It connects when it is made; close it, or use it as a context.

    One that is open when the program ends is closed then.

    Args:
        url: the broker, ``mqtt://user:password@host:port``.
        farm: name of a farm that is stored, or of a user of this machine's farm, or the path of a
            profile, as ``icebus --farm`` has it. Without both, ``$ICEBUS_URL``, ``$ICEBUS_FARM``
            and the profile that ``icebus up`` wrote are tried in turn.
        handlers: told of events.
        timeout: seconds to connect within.

    Raises:
        NoProfile: nothing names a farm.
        BrokerUnavailable: nothing answers there.
        NotAuthorized: the broker refused the user or password.

    Once it is closed, whatever is asked of it raises :class:`ClientClosed` at once.

    Attributes:
        kind: what is reserved unless a call says otherwise; empty for none.
        events: names that :meth:`on` takes; empty for any.
    """

    kind: str = ""
    events: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        url: str | None = None,
        *,
        farm: str | Path | None = None,
        handlers: Sequence[EventHandler] = (),
        timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        address = find_address(url, farm)
        self._connection = Connection(address, Deadline.after(timeout))
        self._available = AvailableDevices(self._connection.bus, self._connection.hooks, self.kind)
        self._observes = False
        open_sessions.opened(self)
        for handler in handlers:
            self.register(handler)

    @property
    def user(self) -> str:
        """Who we are."""
        return self._connection.user

    @property
    def id(self) -> str:
        """The id of this client, which attached reservations name."""
        return self._connection.client

    # --- events -------------------------------------------------------------------------------

    def register(self, handler: EventHandler) -> None:
        """Have a handler's hooks called for events of this client's reservations.

        Raises:
            ClientClosed: there will be no events any more.
        """
        self._connection.check_open()
        if not isinstance(handler, EventHandler):
            raise InvalidRequest(
                f"a handler is an object of a class of EventHandler, not {handler!r}"
            )
        for event in event_names(type(handler)):
            self._check_plain(handler.hook(event))
        self._connection.hooks.add_handler(handler)
        self._connection.listen()
        self._available.listen()

    def on(self, event: str) -> Callable[[F], F]:
        """Register a function for an event; a decorator that returns the function unchanged.

        >>> @client.on("results")  # doctest: +SKIP
        ... def show(result): print(result.pulses)

        Raises:
            InvalidRequest: this client has no such event.
            ClientClosed: there will be no events any more.
        """
        self._connection.check_open()
        check_event(self.events, event)

        def register(function: F) -> F:
            self._check_plain(function)
            self._connection.hooks.add(event, function)
            self._connection.listen()
            self._available.listen()
            return function

        return register

    def _check_plain(self, hook: Hook | None) -> None:
        if hook is not None and not callable(hook):
            raise InvalidRequest(f"a function is called for an event, not {type(hook).__name__}")
        if inspect.iscoroutinefunction(hook):
            raise InvalidRequest(
                f"{getattr(hook, '__name__', 'the hook')} is a coroutine function, which the "
                f"clients for asyncio call: use Async{type(self).__name__}, or make it a plain one"
            )

    # --- the farm -----------------------------------------------------------------------------

    def devices(self, timeout: float = operations.TIMEOUT) -> list[KnownDevice]:
        """All devices that control knows."""
        found = self._ask_or_read(
            lambda: operations.list_devices(self._connection, timeout), retained.devices, timeout
        )
        return listed.devices(found)

    def reservations(
        self, *, everybody: bool = False, timeout: float = operations.TIMEOUT
    ) -> list[reservations.Reservation]:
        """Reservations that have not ended: this user's, or everybody's."""
        user = None if everybody else self.user
        found = self._ask_or_read(
            lambda: operations.list_reservations(self._connection, user, timeout),
            lambda farm: retained.reservations(farm, user),
            timeout,
        )
        return listed.reservations(found)

    def available(
        self,
        kind: str = "",
        selector: str | None = None,
        timeout: float = operations.TIMEOUT,
    ) -> list[str]:
        """The devices that a reservation of that kind could have now.

        Args:
            kind: what for; the client's own kind if it has one.
            selector: labels that they must have.
            timeout: seconds for control to answer.

        Raises:
            UnknownKind: no worker offers it.
            InvalidRequest: the selector is none.
        """
        wanted = kind or self.kind
        found = self._ask_or_read(
            lambda: operations.available(self._connection, wanted or None, selector, timeout),
            lambda farm: retained.available(farm, wanted, selector),
            timeout,
        )
        return listed.serials(found)

    def history(
        self,
        *,
        user: str | None = None,
        reservation: str | None = None,
        serial: str | None = None,
        worker: str | None = None,
        events: Sequence[HistoryEvent] | None = None,
        since: datetime | None = None,
        limit: int = 100,
        timeout: float = operations.TIMEOUT,
    ) -> list[HistoryEntry]:
        """What happened to reservations and devices, newest first: who held what, and why not more.

        Args:
            user: whose reservations.
            reservation: its id.
            serial: of a device.
            worker: its id.
            events: only these.
            since: nothing older.
            limit: entries, at most; an observer is told of the last 100 events only.
            timeout: seconds for control to answer.
        """
        found = self._ask_or_read(
            lambda: operations.history(
                self._connection,
                user=user,
                reservation=reservation,
                serial=serial,
                worker=worker,
                events=events,
                since=since,
                limit=limit,
                timeout=timeout,
            ),
            lambda farm: retained.history(
                farm.history,
                user=user,
                reservation=reservation,
                serial=serial,
                worker=worker,
                events=events,
                since=since,
                limit=limit,
            ),
            timeout,
        )
        return listed.history(found)

    def watch(self, timeout: float = operations.TIMEOUT) -> Changes:
        """What changes on the farm, as it changes, after how all stands at first.

        Devices, reservations, workers, controls, and alarms that several workers say they have a
        device. What one's own boards measure is told by events: :meth:`on`.

        >>> with client.watch() as changes:  # doctest: +SKIP
        ...     for change in changes:
        ...         print(change.what, change.id, change.now)

        Args:
            timeout: seconds for the broker to answer.

        Raises:
            DeadlineExceeded: the broker did not answer.
        """
        return Changes(self._connection, Deadline.after(timeout))

    def logs(
        self,
        *,
        follow: bool = False,
        level: str = RecordLevel.INFO,
        serial: str | None = None,
        worker: str | None = None,
        since: datetime | None = None,
        timeout: float = operations.TIMEOUT,
    ) -> LogStream:
        """What the farm's components log, oldest first: their latest lines, or also what follows.

        Administrators read all of it; users what workers log about boards that they hold, since
        they hold them. Kept are some hundred lines of each component, warnings longer than others.

        >>> with client.logs(follow=True, level="warning") as lines:  # doctest: +SKIP
        ...     for line in lines:
        ...         print(line.at, line.component, line.message)

        Args:
            follow: whether to go on, without an end, with lines as they are logged.
            level: from which on: debug, info, warning, error, critical.
            serial: about which device.
            worker: of which worker.
            since: nothing older.
            timeout: seconds for the broker to answer.

        Raises:
            WrongRole: observers read no logs.
            InvalidRequest: there is no such level.
            DeadlineExceeded: the broker did not answer.
        """
        known = [each.value for each in RecordLevel]
        if level not in known:
            raise InvalidRequest(f"there is no level {level!r}; there are {', '.join(known)}")
        wanted = Wanted(RecordLevel(level), serial, worker, since)
        return LogStream(self._connection, wanted, Deadline.after(timeout), follow=follow)

    @property
    def observes(self) -> bool:
        """Whether this user turned out to be an observer, who reads and may ask nobody anything.

        Such a one is told what is retained: of the history the last events only.
        """
        return self._observes

    def _ask_or_read(self, ask: Callable[[], T], read: Callable[[Survey], T], timeout: float) -> T:
        """What control answers; where it may not be asked, the same from what is retained."""
        deadline = Deadline.after(timeout)
        if not self._observes:
            try:
                return ask()
            except NotAuthorized:
                if self._connection.bus.refusal is not None:
                    raise
        self._connection.check_open()
        found = read(survey(self._connection.bus, deadline))
        self._observes = True
        return found

    # --- life ---------------------------------------------------------------------------------

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """End the connection."""
        self._connection.close(Deadline.after(timeout))
        open_sessions.closed(self)

    @property
    def summary(self) -> str:
        """Who we are and where, for people."""
        address = self._connection.bus.address
        root = "" if address.root == DEFAULT_ROOT else f"/{address.root}"
        kind = f", {self.kind}" if self.kind else ""
        state = ", closed" if self._connection.closed else ""
        return f"{self.user} at farm {address.host}:{address.port}{root}{kind}{state}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {printable(self.summary)}>"

    def _repr_html_(self) -> str:
        """Who we are and where, for notebooks."""
        return html_values(f"{type(self).__name__} {self.summary}", [])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def check_event(known: Collection[str], event: str) -> None:
    """Refuse an event that there is not.

    Args:
        known: names of events; empty for any.
        event: the name.

    Raises:
        InvalidRequest: there is no such event.
    """
    if known and event not in known:
        raise InvalidRequest(f"there is no event {event!r}; there are {', '.join(sorted(known))}")
