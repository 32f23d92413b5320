"""A reservation in the client's hands: ready or not, kept alive, ended, failed."""

from __future__ import annotations

import logging
from collections.abc import Sequence, Set
from functools import partial
from types import TracebackType
from typing import Self

from icebus.bus import Interrupted, wait_for, wait_on
from icebus.client._connection import operations
from icebus.client._reservation import document as documents
from icebus.client._reservation import shown
from icebus.client._reservation.following import FollowedReservation
from icebus.client._reservation.queue_place import Waiting, still_queued_error
from icebus.client._reservation.wait_log import telling, waits_for_ready, waits_in_queue
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import (
    DeadlineExceeded,
    DeviceFailed,
    IcebusError,
    ReservationEnded,
    UnknownReservation,
)
from icebus.schemas.operations.offers import OFFER_DURATION
from icebus.schemas.operations.reservations import EndReason, HoldState
from icebus.schemas.programs.logs import printable

log = logging.getLogger(__name__)

REBOOT_TIMEOUT = 180.0
"""Seconds for boards to be restarted and serve again: if a board fails at it, its recovery takes a
minute."""


class Reservation(FollowedReservation):
    """Some devices that a user holds for a while.

    As a context manager it is released at the end of the block if it is attached to this client;
    a detached one lives on.

    Attributes:
        id: under which `attach` finds it again.
    """

    # --- what it is ---------------------------------------------------------------------------

    @property
    def kind(self) -> str:
        """What its devices are reserved for."""
        return self.document.kind

    @property
    def attached(self) -> bool:
        """Whether it ends with this client."""
        return self.document.client == self._connection.client

    @property
    def ended(self) -> ReservationEnded | None:
        """Why it is over; None while it lives."""
        with self._condition:
            return self._state.ended

    @property
    def lost(self) -> IcebusError | None:
        """Why its devices can't be used any more by this client; None while they can.

        It has ended, or the broker knows this user no longer.
        """
        return self.ended or self._connection.refusal

    @property
    def waiting(self) -> Waiting | None:
        """Where it stood in the queue when that was last told; None if it never waited."""
        with self._condition:
            return self._state.queue_place

    @property
    def summary(self) -> str:
        """Whose it is, what for, its boards and the time that is left, for people."""
        return printable(shown.summary(self.document, self.ended, extended=self.extended))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.summary}>"

    def _repr_html_(self) -> str:
        """The same with a row for each board, for notebooks."""
        name = type(self).__name__
        return shown.table(self.document, self.ended, name, extended=self.extended)

    def problem(self, serial: str) -> IcebusError | None:
        """Why a device of it can't be called now; None if it can."""
        with self._condition:
            error = self._state.error_of(serial)
        if error is None:
            error = self._connection.refusal
        if error is not None:
            return error
        device = self.device(serial)
        if device.serial != serial:
            return self.problem(device.serial)
        return self._connection.workers.problem(device.worker)

    def serves(self, serial: str) -> bool:
        """Whether a device of it can be called now, as far as control has told."""
        return self.device(serial).state is HoldState.SERVING and self.problem(serial) is None

    def wait_given(self, deadline: Deadline) -> None:
        """Wait until it has devices.

        Raises:
            ReservationEnded: it is over, such as because it waited for as long as it was to.
            ReservationQueued: it waits still.
            NotAuthorized: the broker knows this user no longer.
        """
        self._connection.check_open()
        if documents.is_queued(self.document):
            self._wait_subscribed(deadline)
            # What happened before we listened is only known to control.
            self._ask_whether_it_lives()
        with telling(self._connection.bus, self._told_queue), self._condition:
            while documents.is_queued(self._state.document) and self._state.ended is None:
                self._connection.check_not_refused()
                if not wait_on(self._condition, deadline.remaining):
                    raise still_queued_error(self._state.document)
            if self._state.ended is not None:
                raise self._state.ended

    def wait_ready(self, deadline: Deadline) -> None:
        """Wait until every device serves.

        Raises:
            DeviceFailed: one can't be prepared, and none takes its place.
            ReservationEnded: it is over.
            ReservationQueued: it has no devices yet.
            DeadlineExceeded: preparing takes longer than allowed.
            NotAuthorized: the broker knows this user no longer.
        """
        self._connection.check_open()
        self._wait_subscribed(deadline)
        self.wait_given(deadline)
        with telling(self._connection.bus, self._told_preparing), self._condition:
            while True:
                if self._state.ended is not None:
                    raise self._state.ended
                waiting = documents.preparing(self._state.document)
                failed = self._state.failures
                if failed and not self._state.document.replace:
                    raise failed[0]
                if not waiting:
                    return
                self._connection.check_not_refused()
                if not wait_on(self._condition, deadline.remaining):
                    if failed:
                        raise failed[0]
                    raise _not_ready(self.id, waiting)

    def _told_queue(self) -> str:
        with self._condition:
            return waits_in_queue(Waiting.of(self._state.document))

    def _told_preparing(self, serials: Sequence[str] | None = None) -> str:
        with self._condition:
            waiting = documents.preparing(self._state.document)
        return waits_for_ready(
            self.id, [each for each in waiting if serials is None or each in serials]
        )

    def _wait_subscribed(self, deadline: Deadline) -> None:
        """From then on no event passes us by."""
        for subscription in self._subscriptions:
            wait_for(subscription.acknowledged, deadline, "the broker")

    # --- what one does with it ----------------------------------------------------------------

    def grow(
        self,
        count: int | None = None,
        *,
        serials: Sequence[str] | None = None,
        selector: str | None = None,
        ready: bool = True,
        timeout: float = REBOOT_TIMEOUT,
    ) -> list[str]:
        """Have more devices, all or nothing, if they can be had now; those it has go on serving.

        A run that is under way goes on with the boards that it has.

        Args:
            count: how many, any of them; 1 without ``serials``.
            serials: which ones.
            selector: labels that they must have; those asked for at first when None.
            ready: whether to wait until they are ready for calls.
            timeout: seconds for all of it.

        Returns:
            The serials of the new devices.

        Raises:
            NotEnoughDevices: fewer are free than asked for, or others wait for them.
            DeviceUnavailable: a device named is not free.
            LimitExceeded: this user may not have that much.
            DeviceFailed: a device can't be prepared; all that came were released again.
            DeadlineExceeded: it took too long; likewise.
            ReservationEnded: it is over.
        """
        deadline = Deadline.after(timeout)
        if ready:
            self._wait_subscribed(deadline)
        before = set(self.serials)
        grown = operations.grow(
            self._connection,
            self.id,
            count=1 if count is None and serials is None else count,
            serials=serials,
            selector=selector,
            deadline=deadline,
        )
        self._update(grown)
        new = [each.serial for each in documents.held(grown) if each.serial not in before]
        if ready:
            try:
                self._wait_serving(new, set(), deadline)
            except (DeviceFailed, DeadlineExceeded, KeyboardInterrupt, Interrupted):
                self._update(operations.end(self._connection, self.id, new))
                raise
        return new

    def extend(self, duration: float, timeout: float = operations.TIMEOUT) -> None:
        """Move its end by ``duration`` seconds.

        Raises:
            InvalidRequest: no such duration.
            ReservationEnded: too late.
        """
        self._update(operations.extend(self._connection, self.id, duration, timeout))

    def release(
        self, serials: Sequence[str] | None = None, *, timeout: float = operations.TIMEOUT
    ) -> None:
        """Let go of all devices, which ends it, or only of some.

        Releasing what has ended already is no error.

        Args:
            serials: the devices to let go of; None for all.
            timeout: seconds for control to answer.

        Raises:
            DeviceNotHeld: it does not hold one of the devices.
            ClientClosed: its client is closed, and it goes on.
        """
        if serials is not None:
            self._update(operations.end(self._connection, self.id, serials, timeout=timeout))
            return
        if self.ended is not None or self.document.user != self._connection.user:
            self.close()  # it is over, or was given away
            return
        try:
            ended = operations.end(self._connection, self.id, timeout=timeout)
        except (ReservationEnded, UnknownReservation):
            self._end(None)
        else:
            self._end(ended.reason or EndReason.RELEASED)
        finally:
            self.close()

    def reboot(
        self,
        serials: str | Sequence[str] | None = None,
        *,
        ready: bool = True,
        timeout: float = REBOOT_TIMEOUT,
    ) -> None:
        """Restart boards, which stay in the reservation. What they measure fails, and says why.

        A run that is under way does with such failures as with any; boards that are back take part
        again.

        Args:
            serials: a board, or some; None for all.
            ready: whether to wait until they are ready for calls again.
            timeout: seconds for all of it.

        Raises:
            DeviceNotHeld: it does not hold one of the boards.
            DeviceFailed: one does not come back as it should.
            DeadlineExceeded: one is not back in time.
            ReservationEnded: it is over.
        """
        deadline = Deadline.after(timeout)
        chosen = [serials] if isinstance(serials, str) else serials
        wanted = documents.meant_devices(self.document, self.serials if chosen is None else chosen)
        if ready:
            self._wait_subscribed(deadline)
        with self._condition:
            broken = {serial for serial in wanted if self._state.error_of(serial) is not None}
        within = min(operations.TIMEOUT, deadline.remaining)
        self._update(operations.reboot(self._connection, self.id, wanted, timeout=within))
        if ready:
            self._wait_serving(wanted, broken, deadline)

    def _wait_serving(self, serials: Sequence[str], broken: Set[str], deadline: Deadline) -> None:
        """Wait until those devices serve; those that were broken may go on to be for a while."""
        waits = partial(self._told_preparing, serials)
        with telling(self._connection.bus, waits), self._condition:
            while True:
                if self._state.ended is not None:
                    raise self._state.ended
                serving = documents.serving(self._state.document)
                waiting = [serial for serial in serials if serial not in serving]
                errors = {s: e for s in waiting if (e := self._state.error_of(s)) is not None}
                for serial, error in errors.items():
                    if serial not in broken:
                        raise error
                if not waiting:
                    return
                self._connection.check_not_refused()
                if not wait_on(self._condition, deadline.remaining):
                    raise next(iter(errors.values()), _not_ready(self.id, waiting))

    def transfer(
        self,
        user: str | None,
        *,
        wait: float = OFFER_DURATION,
        timeout: float = operations.TIMEOUT,
    ) -> None:
        """Offer it to another user, whose it is once they accept; for this client it is over then.

        Until then it serves this user as before; it is detached, so that it is there still when
        the other accepts. What is being measured then goes on, and its outcomes are the other's.

        Args:
            user: who is to have it; None withdraws an offer.
            wait: seconds that the offer stands.
            timeout: seconds for control to answer.

        Raises:
            UnknownPrincipal: there is no user of that name.
            InvalidRequest: it is somebody who can have no reservations.
            LimitExceeded: the other user has many offers to answer already.
            ReservationEnded: it is over.
        """
        self._update(
            operations.transfer(self._connection, self.id, user, wait=wait, timeout=timeout)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._connection.inherited or not self.attached:
            self.close()
            return
        try:
            self.release()
        except IcebusError as failed:
            # It is attached: control ends it when this client is gone.
            log.warning("could not release reservation %s: %s", self.id, failed)


def _not_ready(reservation: str, serials: Sequence[str]) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"reservation {reservation}: {', '.join(serials)} not ready in time; "
        "`icebus devices` shows what they do",
        serials=list(serials),
    )
