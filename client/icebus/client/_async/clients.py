"""Clients that reserve devices, for asyncio."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec

from typing_extensions import TypeVar

from icebus.client._admin import Admin
from icebus.client._async.boards import AsyncMeasuringBoards
from icebus.client._async.methods import awaited, like
from icebus.client._async.reservation import AsyncReservation, Opening
from icebus.client._async.session import AsyncSession
from icebus.client._client import BaseClient, Client
from icebus.client._handlers import EventHandler
from icebus.client._measuring_client import GenericMeasuringClient, GenericResult, MeasuringClient
from icebus.client._reservation.reservation import Reservation
from icebus.client._reservations_by_id import ReservationsById
from icebus.client._session import CONNECT_TIMEOUT, Session
from icebus.schemas.measuring import Result

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A", bound=AsyncReservation)
R = TypeVar("R", bound=Result)
B = TypeVar("B", bound=AsyncMeasuringBoards[Any], default=AsyncMeasuringBoards[R])


def opening(
    function: Callable[Concatenate[Any, P], Any], undo: Callable[[Any], object]
) -> Callable[Concatenate[AsyncBaseClient[A], P], Opening[A]]:
    """A method that gives a reservation, to be awaited, or used in ``async with``.

    Args:
        function: the method.
        undo: called with the reservation if it comes although nobody waits for it any more.
    """
    name = function.__name__

    def call(self: AsyncBaseClient[A], /, *args: P.args, **kwargs: P.kwargs) -> Opening[A]:
        return Opening(self._reserved(lambda: getattr(self._sync(), name)(*args, **kwargs), undo))

    opened: Callable[Concatenate[AsyncBaseClient[A], P], Opening[A]] = like(
        function, call, "Opening"
    )
    return opened


def calling(
    function: Callable[Concatenate[Any, Reservation, P], T],
) -> Callable[Concatenate[Any, AsyncReservation, P], Coroutine[Any, Any, T]]:
    """A method that is told the reservation, to be awaited."""
    name = function.__name__

    async def call(
        self: AsyncSession, reservation: AsyncReservation, /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        def run() -> T:
            result: T = getattr(self._sync(), name)(reservation._sync(), *args, **kwargs)
            return result

        return await self._calls.run(run)

    called: Callable[Concatenate[Any, AsyncReservation, P], Coroutine[Any, Any, T]]
    called = like(function, call)
    return called


class AsyncReservationsById(AsyncSession):
    """A session that changes its user's reservations, wherever they were made."""

    extend = awaited(ReservationsById.extend)
    end = awaited(ReservationsById.end)
    reboot = awaited(ReservationsById.reboot)
    limits = awaited(ReservationsById.limits)
    offers = awaited(ReservationsById.offers)
    transfer = awaited(ReservationsById.transfer)
    decline = awaited(ReservationsById.decline)


class AsyncBaseClient(AsyncReservationsById, Generic[A]):
    """A session that reserves devices: :class:`BaseClient`, for asyncio.

    Attributes:
        boards: what reservations are.
    """

    boards: ClassVar[type[AsyncReservation]] = AsyncReservation

    reserve = opening(BaseClient[Any].reserve, Reservation.release)
    attach = opening(BaseClient[Any].attach, Reservation.close)
    accept = opening(BaseClient[Any].accept, Reservation.close)
    call = calling(BaseClient[Any].call)
    survey = awaited(BaseClient[Any].survey)
    kinds = awaited(BaseClient[Any].kinds)

    async def _reserved(self, reserve: Callable[[], Any], undo: Callable[[Any], object]) -> A:
        made: Any = self.boards(self._calls, await self._calls.run(reserve, undo=undo))
        self._opened.add(made)
        reservation: A = made
        return reservation


class AsyncClient(AsyncBaseClient[AsyncReservation]):
    """A client for any kind, for asyncio: reserve, call methods, hear events, read the farm."""

    twin = Client


class AsyncMeasuringClient(AsyncBaseClient[B], Generic[R, B]):
    """A client for a kind that measures, for asyncio, made by naming the sync one.

    >>> class AsyncRateClient(AsyncMeasuringClient[RateResult]):  # doctest: +SKIP
    ...     twin = RateClient

    Attributes:
        twin: the class of the sync client.
        boards: what reservations are, where a kind has a class for them.
    """

    twin: ClassVar[type[MeasuringClient[Any, Any]]]
    boards: ClassVar[type[AsyncReservation]] = AsyncMeasuringBoards

    @property
    def result(self) -> type[R]:
        """What a measurement comes to."""
        result: type[R] = self.twin.result
        return result


class AsyncGenericMeasuringClient(AsyncMeasuringClient[GenericResult]):
    """A client for any kind that measures, for asyncio: :class:`GenericMeasuringClient`.

    Args:
        kind: what boards are reserved for unless a call says otherwise; reservations of all kinds
            can be attached when it is empty.
        url: the broker; this and all else as for :class:`AsyncPulseCountClient`.
        farm: name of a farm that is stored, or of a user of this machine's farm, or the path of
            a profile.
        handlers: told of events.
        timeout: seconds to connect within.
    """

    twin = GenericMeasuringClient

    def __init__(
        self,
        kind: str = "",
        url: str | None = None,
        *,
        farm: str | Path | None = None,
        handlers: Sequence[EventHandler] = (),
        timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        super().__init__(url, farm=farm, handlers=handlers, timeout=timeout)
        self._kind = kind
        self._make: Callable[[], Session] = lambda: GenericMeasuringClient(
            kind, url, farm=farm, timeout=timeout
        )

    @property
    def kind(self) -> str:
        """What boards are reserved for unless a call says otherwise; empty for none."""
        return self._kind


class AsyncAdmin(AsyncSession):
    """A session of an administrator, for asyncio: :class:`Admin`."""

    twin = Admin

    end = awaited(Admin.end)
    reboot = awaited(Admin.reboot)
    reflash = awaited(Admin.reflash)
    quarantine = awaited(Admin.quarantine)
    unquarantine = awaited(Admin.unquarantine)
    forget = awaited(Admin.forget)
    move = awaited(Admin.move)
    retire = awaited(Admin.retire)
    drain = awaited(Admin.drain)
    undrain = awaited(Admin.undrain)
