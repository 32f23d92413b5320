"""Handlers: a class per kind, with a hook for every event, to be overridden."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from icebus.schemas.measuring import BatchFinished, Failure, Result

if TYPE_CHECKING:
    from icebus.client._available_devices import DevicesAvailable
    from icebus.client._profiles.endings import Ending
    from icebus.client._reservation.queue_place import Waiting
    from icebus.schemas.errors import IcebusError
    from icebus.schemas.operations.offers import Offered, OfferEnded, Transferred
    from icebus.schemas.operations.reservations import (
        DeviceFailedEvent,
        DeviceReplaced,
        Ended,
        EndingSoon,
        Initialized,
    )


Hooked: TypeAlias = Awaitable[object] | None
"""What a hook returns: nothing, or, for a client of asyncio, what is to be awaited."""


class EventHandler:
    """Hooks for what every reservation may meet; override those you care about.

    Register with ``client.register(handler)``. Hooks run on the client's event thread, one at a
    time, and may call the client. A subclass for another kind adds a method per event of the kind.
    """

    def queued(self, waiting: Waiting) -> Hooked:
        """A reservation waits for devices, and where it stands is not what it was."""

    def initialized(self, device: Initialized) -> Hooked:
        """A device of a reservation is ready for calls."""

    def reservation_ending_soon(self, ending: EndingSoon) -> Hooked:
        """A reservation is about to end; the client extends it unless told not to."""

    def reservation_ended(self, ended: Ended) -> Hooked:
        """A reservation is over."""

    def device_failed(self, failed: DeviceFailedEvent) -> Hooked:
        """A device of a reservation stopped serving."""

    def device_replaced(self, replaced: DeviceReplaced) -> Hooked:
        """Another device takes the place of one that failed."""

    def devices_available(self, available: DevicesAvailable) -> Hooked:
        """Devices can be reserved for the client's kind that could not be before."""

    def offered(self, offered: Offered) -> Hooked:
        """Another user offers a reservation to this one; ``client.accept`` takes it."""

    def offer_ended(self, ended: OfferEnded) -> Hooked:
        """A reservation that was offered, by this user or to this one, was not accepted."""

    def transferred(self, transferred: Transferred) -> Hooked:
        """A reservation that was offered to another user is theirs now."""

    def away(self, problem: IcebusError) -> Hooked:
        """The broker or control is away, for this reason, and is waited for.

        Told once for each reason, and each minute while it lasts.
        """

    def back(self, since: datetime) -> Hooked:
        """The farm is there again, which was away since then."""

    def refused(self, refusal: IcebusError) -> Hooked:
        """The broker will not have this client back: its user was removed, or has a new password.

        Whatever waits for the farm ends with the same error. This client goes on trying.
        """

    def ends(self, ending: Ending) -> Hooked:
        """This user's account ends within a week, or the password that is used was replaced."""

    def hook(self, event: str) -> Callable[[Any], object] | None:
        """The method that takes events of that name, if the handler has one of its own.

        Names come from the network, so only methods that a handler class defines are found.
        """
        if event.startswith("_") or event == "hook":
            return None
        for cls in type(self).__mro__:
            if cls not in _STUBS and callable(vars(cls).get(event)):
                method: Callable[[Any], object] = getattr(self, event)
                return method
        return None


R = TypeVar("R", bound=Result)


class MeasuringHandler(EventHandler, Generic[R]):
    """Hooks for reservations of a kind that measures, whose results are ``R``."""

    def results(self, result: R) -> Hooked:
        """A bitstream was measured on a device."""

    def failures(self, failure: Failure) -> Hooked:
        """A bitstream will have no result on a device."""

    def finished(self, finished: BatchFinished) -> Hooked:
        """Every evaluation of a batch on a device has had its outcome."""


_STUBS = (EventHandler, MeasuringHandler)


def event_names(handler: type[EventHandler]) -> frozenset[str]:
    """The events a handler class has hooks for."""
    return frozenset(
        name
        for cls in handler.__mro__
        if issubclass(cls, EventHandler)
        for name in vars(cls)
        if not name.startswith("_") and name != "hook"
    )
