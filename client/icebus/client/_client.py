"""The base of clients: reserve devices of any kind, call their methods, hear their events."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from icebus.client import _open_sessions as open_sessions
from icebus.client._connection import operations
from icebus.client._connection.connection import check_id, serials_of, validated
from icebus.client._farm.offers import commonest, merge
from icebus.client._farm.survey import Survey, survey
from icebus.client._handlers import EventHandler
from icebus.client._json_values import json_object
from icebus.client._reservation.device_calls import call_devices
from icebus.client._reservation.document import UNTOLD
from icebus.client._reservation.named import reservation_of_environment
from icebus.client._reservation.queue_place import waited_in_vain_error
from icebus.client._reservation.reservation import Reservation
from icebus.client._reservations_by_id import ReservationsById
from icebus.client._session import CLOSE_TIMEOUT, CONNECT_TIMEOUT
from icebus.schemas.calls import CallResults
from icebus.schemas.components import KindInfo
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import (
    DeviceUnavailable,
    IcebusError,
    InvalidRequest,
    LimitExceeded,
    NotEnoughDevices,
    ReservationEnded,
    UnknownReservation,
)
from icebus.schemas.files import Blob
from icebus.schemas.message import now
from icebus.schemas.operations import reservations
from icebus.schemas.operations.reservations import EndReason, ReservationState, ReserveArgs
from icebus.schemas.programs.logs import UnconfiguredHandler
from icebus.schemas.shown import html_values
from icebus.schemas.topics import WORKER_KINDS
from icebus.schemas.wording import counted

log = logging.getLogger(__name__)
logging.getLogger("icebus").addHandler(UnconfiguredHandler())

PREPARE_TIMEOUT = 180.0
"""Seconds for reserved devices to serve: a reflash with a retry takes a real board a minute."""

CALL_TIMEOUT = 30.0
"""Seconds for a method to answer."""

R = TypeVar("R", bound=Reservation)


class BaseClient(ReservationsById, ABC, Generic[R]):
    """A session that reserves devices; a subclass says what it makes of a reservation."""

    def __init__(
        self,
        url: str | None = None,
        *,
        farm: str | Path | None = None,
        handlers: Sequence[EventHandler] = (),
        timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        super().__init__(url, farm=farm, handlers=handlers, timeout=timeout)
        self._held: list[R] = []

    @abstractmethod
    def _open(
        self, document: reservations.Reservation, *, keep_alive: bool, remaining: float | None
    ) -> R:
        """The object that stands for a reservation.

        Args:
            document: the reservation as control told it.
            keep_alive: whether to extend it while this client lives.
            remaining: seconds that are left of it, where known.
        """

    def reserve(
        self,
        count: int | None = None,
        *,
        serials: Sequence[str] | None = None,
        selector: str | None = None,
        kind: str | None = None,
        args: Mapping[str, Any] | None = None,
        duration: float | None = None,
        detached: bool = False,
        keep_alive: bool | None = None,
        wait: float = 0.0,
        priority: int = 0,
        replace: bool = False,
        ready: bool = True,
        timeout: float = PREPARE_TIMEOUT,
    ) -> R:
        """Reserve devices, all or nothing, and wait until each is ready for calls.

        Args:
            count: how many, any of them; 1 without ``serials``.
            serials: which ones.
            selector: labels that they must have, such as ``chip=rp2350,rack!=b``.
            kind: what for; the client's own kind if it has one.
            args: what the kind asks for.
            duration: seconds; control's default when None.
            detached: whether the reservation lives on without this client.
            keep_alive: whether to extend it while this client lives; by default, if attached.
            wait: seconds to stand in the queue for devices that others hold; 0 takes what can be
                had now or within seconds, because nobody holds it. The event ``queued`` tells of
                every change of place, and after some seconds the log does, too.
            priority: higher goes first in the queue; waiting raises it.
            replace: whether a device that fails is replaced by another that is ready.
            ready: whether to wait until the devices are ready for calls.
            timeout: seconds for that, once there are devices.

        Raises:
            NotEnoughDevices: fewer are free than asked for, or became free in time.
            DeviceUnavailable: a device named is not free, or did not become so.
            LimitExceeded: this user may not have that much.
            UnknownDevice: a device named does not exist.
            UnknownKind: no worker offers that kind.
            InvalidRequest: the request makes no sense.
            DeviceFailed: a device can't be prepared; the reservation was released.
            DeadlineExceeded: it took too long; likewise.
        """
        self._connection.check_open()
        request = validated(
            ReserveArgs,
            "reserve",
            kind=kind or self.kind or None,
            count=1 if count is None and serials is None else count,
            serials=serials_of(serials),
            selector=selector,
            args=json_object(args, "args"),
            duration=duration,
            client=None if detached else self.id,
            wait=wait,
            priority=priority,
            replace=replace,
        )
        alive = not detached if keep_alive is None else keep_alive
        try:
            return self._reserve(request, keep_alive=alive, ready=ready, timeout=timeout)
        except (NotEnoughDevices, DeviceUnavailable, LimitExceeded) as error:
            raise self._naming_own_boards(error) from None

    def _reserve(self, request: ReserveArgs, *, keep_alive: bool, ready: bool, timeout: float) -> R:
        deadline = Deadline.after(timeout)
        wait = request.wait
        waited = Deadline.after(wait)
        refusal: IcebusError | None = None
        try:
            document = operations.reserve(self._connection, request, deadline)
        except (NotEnoughDevices, DeviceUnavailable) as error:
            # Nobody holds them; they are only just being let go or made ready.
            if wait or error.details.get("soon") is not True:
                raise
            refusal = error
            request = request.model_copy(update={"wait": min(operations.SOON_FREE, timeout)})
            waited = Deadline.after(request.wait)
            document = operations.reserve(self._connection, request, deadline)
        reservation = self._open(document, keep_alive=keep_alive, remaining=request.duration)
        try:
            reservation.start()
            self._hold(reservation)
            with self._connection.farm_watch.waiting():
                if document.state is ReservationState.QUEUED:
                    self._wait_given(reservation, request, waited, refusal)
                    deadline = Deadline.after(timeout)
                if ready:
                    reservation.wait_ready(deadline)
        except BaseException:
            self._give_up(reservation)
            raise
        return reservation

    def _naming_own_boards(self, error: IcebusError) -> IcebusError:
        """The same error; it names boards that this program has already, as a notebook may."""
        own = [
            f"{' '.join(each.serials)} in {each.id}"
            for session in open_sessions.all_open()
            if isinstance(session, BaseClient) and session.user == self.user
            for each in session._open_reservations
            if each.ended is None and each.serials
        ]
        if not own:
            return error
        return type(error)(
            f"{error.message}; this program itself holds {', '.join(own)}: release them, or have "
            "icebus.client.close_all() do it",
            **error.details,
        )

    def _wait_given(
        self, reservation: R, request: ReserveArgs, waited: Deadline, refusal: IcebusError | None
    ) -> None:
        """Wait for devices for as long as the request says, which control measures."""
        try:
            reservation.wait_given(Deadline.after(request.wait + operations.TIMEOUT))
        except ReservationEnded as ended:
            reason = ended.details["reason"]
            # Why it ended may have been told before we listened.
            in_vain = reason == EndReason.NOT_IN_TIME or (reason == UNTOLD and waited.expired)
            if in_vain:
                raise refusal or waited_in_vain_error(request, reservation.waiting) from None
            raise

    def _hold(self, reservation: R) -> None:
        self._held = [each for each in self._held if not each.closed] + [reservation]

    def _give_up(self, reservation: R) -> None:
        try:
            reservation.release(timeout=5)
        except IcebusError as error:
            log.warning("could not release reservation %s: %s", reservation.id, error)

    def attach(
        self,
        reservation: str | None = None,
        *,
        take_over: bool | None = None,
        keep_alive: bool | None = None,
        ready: bool = True,
        timeout: float = 30.0,
    ) -> R:
        """Take up a reservation of this user's, made elsewhere or before a crash.

        One that depends on a client depends on this one from now on, which keeps it from ending
        with the other. A detached one stays so. Results that were measured while nobody listened
        wait at the workers: see ``collect``.

        Args:
            reservation: its id; None for the one that ``$ICEBUS_RESERVATION`` names, as it does for
                what `icebus run` runs.
            take_over: whether to have it depend on this client if it depends on another; else it
                still ends with that one. By default, if ``reservation`` is given.
            keep_alive: whether to extend it while this client lives; by default, if it depends on
                this client.
            ready: whether to wait until all of its devices are ready; without it, results can be
                collected although a device is broken.
            timeout: seconds to wait for that.

        Raises:
            UnknownReservation: this user holds none of that id.
            ReservationQueued: it has no devices yet.
            DeviceFailed: a device of it can't be used.
            DeadlineExceeded: its devices are not ready in time.
        """
        take_over = reservation is not None if take_over is None else take_over
        if reservation is None:
            reservation = reservation_of_environment()
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
        self._check_kind(document)
        if take_over and document.client not in (None, self.id):
            document = operations.attach(self._connection, reservation, deadline.remaining)
        queued = document.state is ReservationState.QUEUED
        remaining = None if queued else max(0.0, (document.until - now()).total_seconds())
        alive = document.client == self.id if keep_alive is None else keep_alive
        held = self._open(document, keep_alive=alive, remaining=remaining)
        held.start()
        try:
            if ready:
                with self._connection.farm_watch.waiting():
                    held.wait_ready(deadline)
        except BaseException:
            held.close()
            raise
        self._hold(held)
        return held

    def accept(
        self,
        reservation: str,
        *,
        keep_alive: bool | None = None,
        ready: bool = True,
        timeout: float = 30.0,
    ) -> R:
        """Take a reservation that another user offers to this one; it is detached.

        Args:
            reservation: its id, as the event ``offered`` and :meth:`offers` tell it.
            keep_alive: whether to extend it while this client lives.
            ready: whether to wait until all of its devices are ready.
            timeout: seconds to wait for that.

        Raises:
            UnknownReservation: there is none of that id.
            Forbidden: it is not offered to this user, or not any more.
            LimitExceeded: this user has as much as they may have.
            DeviceFailed: a device of it can't be used; it is this user's all the same.
            DeadlineExceeded: its devices are not ready in time; likewise.
        """
        deadline = Deadline.after(timeout)
        for offered in self.offers():
            if offered.id == reservation:
                self._check_kind(offered)
        accepted = operations.accept(self._connection, reservation, deadline.remaining)
        ready = ready and accepted.state is not ReservationState.QUEUED
        return self.attach(
            reservation, keep_alive=keep_alive, ready=ready, timeout=deadline.remaining
        )

    def _check_kind(self, document: reservations.Reservation) -> None:
        if self.kind and document.kind != self.kind:
            raise InvalidRequest(
                f"reservation {document.id} is for {document.kind}, not {self.kind}"
            )

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
            self._connection,
            reservation,
            serials,
            method,
            args,
            files,
            Deadline.after(timeout),
        )

    def survey(self, timeout: float = operations.TIMEOUT) -> Survey:
        """How the farm is, as it tells everybody: workers, what they offer, who holds what.

        Raises:
            DeadlineExceeded: the broker did not answer.
        """
        self._connection.check_open()
        return survey(self._connection.bus, Deadline.after(timeout))

    def kinds(self, timeout: float = operations.TIMEOUT) -> dict[str, KindInfo]:
        """What boards can be reserved for, by name, as most of the workers describe it.

        Raises:
            DeadlineExceeded: the broker did not answer.
        """
        self._connection.check_open()
        found = survey(self._connection.bus, Deadline.after(timeout), [WORKER_KINDS])
        return commonest(merge(found.kinds))

    @property
    def _open_reservations(self) -> list[R]:
        return [each for each in self._held if not each.closed]

    @property
    def summary(self) -> str:
        held = self._open_reservations
        boards = sum(len(each.serials) for each in held)
        told = f"{counted(boards, 'board')} in {counted(len(held), 'reservation')}"
        return f"{super().summary}; {told}" if held else super().summary

    def _repr_html_(self) -> str:
        """Who we are, where, and what is reserved, for notebooks."""
        held = [(each.id, each.summary.partition(" ")[2]) for each in self._open_reservations]
        return html_values(f"{type(self).__name__} {self.summary}", held)

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Release what is attached to this client, and end its connection."""
        held, self._held = self._held, []
        for reservation in held:
            goes_on = self._connection.inherited or not reservation.attached
            if not goes_on and not reservation.closed:
                self._give_up(reservation)
            else:
                reservation.close()
        super().close(timeout)


class Client(BaseClient[Reservation]):
    """A client for any kind: reserve, call methods, hear events, read the farm."""

    def _open(
        self, document: reservations.Reservation, *, keep_alive: bool, remaining: float | None
    ) -> Reservation:
        return Reservation(self._connection, document, keep_alive=keep_alive, remaining=remaining)
