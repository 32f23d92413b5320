"""The base of clients: reserve devices of any kind, call their methods, hear their events."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from icebus.client import operations
from icebus.client.calls import call_devices
from icebus.client.handlers import EventHandler
from icebus.client.link import check_id, make
from icebus.client.reservation import Reservation
from icebus.client.session import CLOSE_TIMEOUT, CONNECT_TIMEOUT, Session
from icebus.client.survey import Survey, survey
from icebus.schemas import reservations
from icebus.schemas.calls import CallResults
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError, InvalidRequest, UnknownReservation
from icebus.schemas.files import Blob
from icebus.schemas.message import now
from icebus.schemas.reservations import ReserveArgs

log = logging.getLogger(__name__)

PREPARE_TIMEOUT = 180.0
"""Seconds for reserved devices to serve: a reflash with a retry takes a real board a minute."""

PATIENCE = 15.0
"""Seconds for boards to become ready after somebody let them go: they are reset and tested."""

CALL_TIMEOUT = 30.0
"""Seconds for a method to answer."""

R = TypeVar("R", bound=Reservation)


class BaseClient(Session, ABC, Generic[R]):
    """A session that reserves devices; ``R`` is what it hands out for them."""

    def __init__(
        self,
        url: str | None = None,
        *,
        profile: str | Path | None = None,
        handlers: Sequence[EventHandler] = (),
        timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        super().__init__(url, profile=profile, handlers=handlers, timeout=timeout)
        self._held: list[R] = []

    def reserve(
        self,
        count: int | None = None,
        *,
        serials: Sequence[str] | None = None,
        kind: str | None = None,
        args: Mapping[str, Any] | None = None,
        duration: float | None = None,
        detached: bool = False,
        keep_alive: bool | None = None,
        wait: bool = True,
        patience: float = PATIENCE,
        timeout: float = PREPARE_TIMEOUT,
    ) -> R:
        """Reserve devices, all or nothing, and wait until each is ready for calls.

        Args:
            count: how many, any of them; 1 without ``serials``.
            serials: which ones.
            kind: what for; the client's own kind if it has one.
            args: what the kind asks for.
            duration: seconds; control's default when None.
            detached: whether the reservation lives on without this client.
            keep_alive: whether to extend it while this client lives; by default, if attached.
            wait: whether to wait until the devices are ready.
            patience: seconds to wait for boards that nobody holds and that are only just being
                let go or made ready; not for those that somebody holds.
            timeout: seconds for all of it.

        Raises:
            NotEnoughDevices: fewer are free than asked for.
            DeviceUnavailable: a device named is not free.
            UnknownDevice: a device named does not exist.
            UnknownKind: no worker offers that kind.
            InvalidRequest: the request makes no sense.
            DeviceFailed: a device can't be prepared; the reservation was released.
            DeadlineExceeded: it took too long; likewise.
        """
        request = make(
            ReserveArgs,
            "reserve",
            kind=kind or self.kind or None,
            count=1 if count is None and serials is None else count,
            serials=None if serials is None else list(serials),
            args=dict(args or {}),
            duration=duration,
            client=None if detached else self.id,
        )
        deadline = Deadline.after(timeout)
        document = operations.reserve(self._link, request, patience, deadline)
        alive = not detached if keep_alive is None else keep_alive
        reservation = self._make(document, keep_alive=alive, remaining=None)
        try:
            reservation.start()
            self._hold(reservation)
            if wait:
                reservation.wait_ready(deadline)
        except BaseException:
            self._give_up(reservation)
            raise
        return reservation

    def _hold(self, reservation: R) -> None:
        self._held = [each for each in self._held if not each.closed] + [reservation]

    def _give_up(self, reservation: R) -> None:
        try:
            reservation.release(timeout=5)
        except IcebusError as error:
            log.warning("could not release reservation %s: %s", reservation.id, error)

    def attach(
        self,
        reservation: str,
        *,
        keep_alive: bool = False,
        wait: bool = True,
        timeout: float = 30.0,
    ) -> R:
        """Take up a reservation of this user's, made elsewhere or before.

        Args:
            reservation: its id.
            keep_alive: whether to extend it while this client lives.
            wait: whether to wait until all of its devices are ready.
            timeout: seconds to wait for that.

        Raises:
            UnknownReservation: this user holds none of that id.
            DeviceFailed: a device of it can't be used.
            DeadlineExceeded: its devices are not ready in time.
        """
        check_id(reservation, "reservation")
        deadline = Deadline.after(timeout)
        for document in self.reservations():
            if document.id == reservation:
                break
        else:
            raise UnknownReservation(
                f"{self.user} holds no reservation {reservation!r}; `icebus reservations` lists "
                "those there are",
                reservation=reservation,
            )
        if self.kind and document.kind != self.kind:
            raise InvalidRequest(
                f"reservation {reservation} is for {document.kind}, not {self.kind}"
            )
        remaining = max(0.0, (document.until - now()).total_seconds())
        held = self._make(document, keep_alive=keep_alive, remaining=remaining)
        held.start()
        try:
            if wait:
                held.wait_ready(deadline)
        except BaseException:
            held.close()
            raise
        self._hold(held)
        return held

    @abstractmethod
    def _make(
        self, document: reservations.Reservation, *, keep_alive: bool, remaining: float | None
    ) -> R:
        """What is handed out for a reservation of this kind."""

    def extend(
        self, reservation: str, duration: float, timeout: float = operations.TIMEOUT
    ) -> reservations.Reservation:
        """Move the end of a reservation by ``duration`` seconds.

        Raises:
            UnknownReservation: there is none of that id.
            Forbidden: it is somebody else's.
        """
        return operations.extend(self._link, reservation, duration, timeout)

    def end(
        self, reservation: str, timeout: float = operations.TIMEOUT
    ) -> reservations.Reservation:
        """End a reservation; its devices become free.

        Raises:
            UnknownReservation: there is none of that id.
            Forbidden: it is somebody else's.
        """
        return operations.end(self._link, reservation, timeout)

    def call(
        self,
        reservation: Reservation,
        serials: Sequence[str] | None,
        method: str,
        args: Mapping[str, Any] | None = None,
        *,
        files: Sequence[Blob] = (),
        timeout: float = CALL_TIMEOUT,
    ) -> CallResults:
        """Call a method on devices of a reservation: one call to each worker concerned.

        Args:
            reservation: that holds the devices.
            serials: of the devices; None for all.
            method: its name.
            args: as its schema on ``worker/…/kinds`` says.
            files: those that ``args`` names by hash.
            timeout: seconds for all of it.

        Returns:
            What the method returned on each device, and how it failed on others.

        Raises:
            DeviceNotHeld: the reservation does not hold one of the devices.
            UnknownMethod: the kind has no such method.
            IcebusError: whatever else a worker refused the call with.
        """
        return call_devices(
            self._link, reservation, serials, method, args or {}, files, Deadline.after(timeout)
        )

    def survey(self, timeout: float = operations.TIMEOUT) -> Survey:
        """How the farm is, as it tells everybody: workers, what they offer, who holds what.

        Raises:
            DeadlineExceeded: the broker did not answer.
        """
        return survey(self._link.bus, Deadline.after(timeout))

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Release what is attached to this client, and end its connection."""
        held, self._held = self._held, []
        for reservation in held:
            if reservation.attached and not reservation.closed:
                self._give_up(reservation)
            else:
                reservation.close()
        super().close(timeout)


class Client(BaseClient[Reservation]):
    """A client for any kind: reserve, call methods, hear events, read the farm."""

    def _make(
        self, document: reservations.Reservation, *, keep_alive: bool, remaining: float | None
    ) -> Reservation:
        return Reservation(self._link, document, keep_alive=keep_alive, remaining=remaining)
