"""A reservation in the hands of an async client."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self

from typing_extensions import TypeVar

from icebus.client._async.calls import Calls
from icebus.client._async.methods import Twin, at_once, awaited
from icebus.client._reservation.queue_place import Waiting
from icebus.client._reservation.reservation import Reservation
from icebus.schemas.errors import IcebusError, ReservationEnded
from icebus.schemas.operations import reservations


class AsyncReservation(Twin):
    """Some devices that a user holds for a while: :class:`Reservation`, for asyncio.

    As a context manager it is released at the end of the block, also of one that is cancelled, if
    it is attached to this client; a detached one lives on.
    """

    _closed_as = "this reservation"

    def __init__(self, calls: Calls, reservation: Reservation) -> None:
        super().__init__(calls)
        self._reservation = reservation

    def _sync(self) -> Any:
        return self._reservation

    def _sync_now(self) -> Any:
        return self._reservation

    @property
    def id(self) -> str:
        """Under which `attach` finds it again."""
        return self._reservation.id

    @property
    def kind(self) -> str:
        """What its devices are reserved for."""
        return self._reservation.kind

    @property
    def document(self) -> reservations.Reservation:
        """The reservation as control last told it."""
        return self._reservation.document

    @property
    def serials(self) -> list[str]:
        """Its devices; none while it is queued."""
        return self._reservation.serials

    @property
    def attached(self) -> bool:
        """Whether it ends with this client."""
        return self._reservation.attached

    @property
    def extended(self) -> bool:
        """Whether its end is moved for as long as the client lives."""
        return self._reservation.extended

    @property
    def ended(self) -> ReservationEnded | None:
        """Why it is over; None while it lives."""
        return self._reservation.ended

    @property
    def lost(self) -> IcebusError | None:
        """Why its devices can't be used any more by this client; None while they can."""
        return self._reservation.lost

    @property
    def closed(self) -> bool:
        """Whether this object has let go of it."""
        return self._reservation.closed

    @property
    def waiting(self) -> Waiting | None:
        """Where it stood in the queue when that was last told; None if it never waited."""
        return self._reservation.waiting

    @property
    def summary(self) -> str:
        """Whose it is, what for, its boards and the time that is left, for people."""
        return self._reservation.summary

    device = at_once(Reservation.device)
    problem = at_once(Reservation.problem)
    serves = at_once(Reservation.serves)
    wait_given = awaited(Reservation.wait_given)
    wait_ready = awaited(Reservation.wait_ready)
    grow = awaited(Reservation.grow)
    extend = awaited(Reservation.extend)
    release = awaited(Reservation.release)
    reboot = awaited(Reservation.reboot)
    transfer = awaited(Reservation.transfer)

    async def close(self) -> None:
        """Let go of it without ending it."""
        await self._close_streams()
        await self._calls.finish(self._reservation.close)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.summary}>"

    def _repr_html_(self) -> str:
        """The same with a row for each board, for notebooks."""
        return self._reservation._repr_html_()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._close_streams()
        finally:
            await self._calls.finish(lambda: self._reservation.__exit__(None, None, None))


A = TypeVar("A", bound=AsyncReservation)

_NOT_AWAITED = (
    "a reservation that was not awaited: write `boards = await client.reserve(…)` or "
    "`async with client.reserve(…) as boards`"
)


class Opening(Generic[A]):
    """A reservation that is to be had: await it, or use it in ``async with``, which releases it."""

    def __init__(self, opening: Coroutine[Any, Any, A]) -> None:
        self._opening = opening
        self._opened: A | None = None

    def __await__(self) -> Generator[Any, Any, A]:
        return self._opening.__await__()

    def __repr__(self) -> str:
        return f"<{_NOT_AWAITED}>"

    if not TYPE_CHECKING:  # type checkers say so themselves

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(f"no {name!r} yet: {_NOT_AWAITED}", name=name, obj=self)

    async def __aenter__(self) -> A:
        self._opened = opened = await self._opening
        return opened

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._opened is not None:
            await self._opened.__aexit__(kind, error, traceback)
