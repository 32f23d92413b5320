"""Events as iCEFARM's handlers take them: a name, a serial, and contents by name."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from icebus.client import EventHandler
from icebus.schemas.deadline import Deadline

if TYPE_CHECKING:
    from icebus.schemas.operations.reservations import (
        DeviceFailedEvent,
        Ended,
        EndingSoon,
        Initialized,
    )

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

_KEY = "_icefarm_event"

LOOK_AGAIN = 1.0
"""Seconds between looks at whether enough devices are free."""


@dataclass
class Event:
    """Something that happened on a device, or in the farm."""

    serial: str
    event: str
    contents: dict[str, Any] = field(default_factory=dict)


def register(key: str, *args: str) -> Callable[[F], F]:
    """Have a method of an :class:`AbstractEventHandler` called for an event.

    Args:
        key: the event's name.
        *args: the contents that it is called with, in this order.
    """

    def mark(method: F) -> F:
        setattr(method, _KEY, (key, args))
        return method

    return mark


class AbstractEventHandler:
    """Calls methods that are marked with :func:`register` for their events."""

    def __init__(self, event_server: EventServer) -> None:
        self.event_server = event_server

    def exit(self) -> None:
        """Called when the client stops."""

    def sendEvent(self, event: Event) -> None:
        """Give an event to all handlers."""
        self.event_server.handleEvent(event)

    def handleEvent(self, event: Event) -> Any:
        """Call the method for an event; False where there is none or contents are missing."""
        for cls in type(self).__mro__:
            for name, attribute in vars(cls).items():
                key, wanted = getattr(attribute, _KEY, (None, ()))
                if key != event.event:
                    continue
                values = [event.contents.get(each) for each in wanted]
                if None in values:
                    return False
                return getattr(self, name)(*values)
        return False


class EventServer:
    """Gives events to handlers, in the order in which these were added."""

    def __init__(self, eventhandlers: Iterable[AbstractEventHandler] = ()) -> None:
        self.eventhandlers = list(eventhandlers)

    def addEventHandler(self, eh: AbstractEventHandler) -> None:
        """Add a handler."""
        self.eventhandlers.append(eh)

    def handleEvent(self, event: Event) -> None:
        """Give an event to all handlers; one that fails keeps it from no other."""
        for handler in list(self.eventhandlers):
            try:
                handler.handleEvent(event)
            except Exception:
                log.exception("a handler of %r failed", event.event)

    def exit(self) -> None:
        """Tell all handlers that the client stops."""
        for handler in list(self.eventhandlers):
            handler.exit()


class DefaultBaseEventHandler(AbstractEventHandler):
    """What happens to reservations; override what you care about."""

    @register("reservation ending soon", "serial")
    def handleReservationEndingSoon(self, serial: str) -> None:
        """The reservation of a device is about to end."""

    @register("reservation end", "serial")
    def handleReservationEnd(self, serial: str) -> None:
        """The reservation of a device has ended."""

    @register("failure", "serial")
    def handleFailure(self, serial: str) -> None:
        """A device stopped serving."""


class LoggerEventHandler(AbstractEventHandler):
    """Logs every event."""

    def __init__(self, event_server: EventServer, logger: logging.Logger) -> None:
        super().__init__(event_server)
        self.logger = logger

    def handleEvent(self, event: Event) -> None:
        """Log it."""
        self.logger.info(
            "Received event: %s serial: %s contents: %s", event.event, event.serial, event.contents
        )


class Extends(Protocol):
    """A client that can extend reservations."""

    def extend(self, serials: list[str]) -> list[str]:
        """Extend them by an hour."""


class ReservationExtender(AbstractEventHandler):
    """Extends reservations that are about to end. Clients do so by themselves, too."""

    def __init__(self, event_server: EventServer, client: Extends, logger: logging.Logger) -> None:
        super().__init__(event_server)
        self.client = client
        self.logger = logger

    @register("reservation ending soon", "serial")
    def handleReservationEndingSoon(self, serial: str) -> None:
        """Extend it."""
        if self.client.extend([serial]):
            self.logger.info("extended the reservation of %s", serial)


class CountsAvailable(Protocol):
    """A client that knows how many devices can be reserved."""

    def available(self) -> int:
        """How many."""


class AvailabilityWaiter(AbstractEventHandler):
    """Waits until so many devices can be reserved; `reserve` with a time to wait does more.

    Args:
        event_server: where events come from.
        client: that is asked how many there are.
    """

    def __init__(self, event_server: EventServer, client: CountsAvailable) -> None:
        super().__init__(event_server)
        self.client = client

    def waitForAmountAvailable(self, amount: int, timeout: float = 60.0) -> None:
        """Wait for them.

        Raises:
            DeadlineExceeded: they are not free in time.
        """
        deadline = Deadline.after(timeout)
        while self.client.available() < amount:
            deadline.check(f"{amount} devices to be free")
            time.sleep(min(LOOK_AGAIN, deadline.remaining))


class Translator(EventHandler):
    """Makes events of a farm into iCEFARM's.

    Args:
        server: where they go.
        serials: the devices that a reservation has, or had when it ended.
    """

    def __init__(self, server: EventServer, serials: Callable[[], list[str]]) -> None:
        self._server = server
        self._serials = serials

    def initialized(self, device: Initialized) -> None:
        """A device is ready."""
        self._tell("initialized", device.serial)

    def device_failed(self, failed: DeviceFailedEvent) -> None:
        """A device stopped serving."""
        self._tell("failure", failed.serial, reason=failed.reason)

    def reservation_ending_soon(self, ending: EndingSoon) -> None:
        """Told for each device."""
        for serial in self._serials():
            self._tell("reservation ending soon", serial)

    def reservation_ended(self, ended: Ended) -> None:
        """Told for each device."""
        for serial in self._serials():
            self._tell("reservation end", serial, reason=ended.reason.value)

    def _tell(self, event: str, serial: str, **contents: Any) -> None:
        told = {"event": event, "serial": serial, **contents}
        self._server.handleEvent(Event(serial, event, told))
