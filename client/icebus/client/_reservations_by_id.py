"""What a client can do with reservations that it knows by their ids."""

from __future__ import annotations

from collections.abc import Sequence

from icebus.client import _listed as listed
from icebus.client._connection import operations
from icebus.client._session import Session
from icebus.schemas.operations import reservations
from icebus.schemas.operations.limits import LimitsReply
from icebus.schemas.operations.offers import OFFER_DURATION


class ReservationsById(Session):
    """A session that changes its user's reservations, wherever they were made."""

    def extend(
        self, reservation: str, duration: float, timeout: float = operations.TIMEOUT
    ) -> reservations.Reservation:
        """Move the end of a reservation by ``duration`` seconds.

        Raises:
            UnknownReservation: there is none of that id.
            Forbidden: it is somebody else's.
        """
        return operations.extend(self._connection, reservation, duration, timeout)

    def end(
        self,
        reservation: str,
        serials: Sequence[str] | None = None,
        *,
        timeout: float = operations.TIMEOUT,
    ) -> reservations.Reservation:
        """End a reservation, or let go of some of its devices; they become free.

        Args:
            reservation: its id.
            serials: the devices to let go of; None for all. Without the last one it ends.
            timeout: seconds for control to answer.

        Raises:
            UnknownReservation: there is none of that id.
            DeviceNotHeld: it does not hold one of the devices.
            Forbidden: it is somebody else's.
        """
        return operations.end(self._connection, reservation, serials, timeout=timeout)

    def reboot(
        self,
        reservation: str,
        serials: Sequence[str] | None = None,
        *,
        timeout: float = operations.TIMEOUT,
    ) -> reservations.Reservation:
        """Have boards of a reservation restarted; what they measure fails, and it keeps them.

        They are ``preparing`` until they serve again; :meth:`Reservation.reboot` waits for that.

        Args:
            reservation: its id.
            serials: the boards; None for all.
            timeout: seconds for control to answer.

        Raises:
            UnknownReservation: there is none of that id.
            DeviceNotHeld: it does not hold one of the boards.
            Forbidden: it is somebody else's.
            ReservationQueued: it has no boards yet.
        """
        return operations.reboot(self._connection, reservation, serials, timeout=timeout)

    def limits(self, timeout: float = operations.TIMEOUT) -> LimitsReply:
        """What this user may have, at once and in a week, and has."""
        return operations.limits(self._connection, timeout)

    def offers(self, timeout: float = operations.TIMEOUT) -> list[reservations.Reservation]:
        """Reservations that others offer to this user; :meth:`accept` takes one."""
        return listed.reservations(operations.list_offers(self._connection, timeout))

    def transfer(
        self,
        reservation: str,
        user: str | None,
        *,
        wait: float = OFFER_DURATION,
        timeout: float = operations.TIMEOUT,
    ) -> reservations.Reservation:
        """Offer a reservation to another user, whose it is once they accept.

        Until then it is this user's, and counts for this one; it is detached, so that it is there
        still when the other accepts.

        Args:
            reservation: its id.
            user: who is to have it; None withdraws an offer.
            wait: seconds that the offer stands.
            timeout: seconds for control to answer.

        Raises:
            UnknownReservation: there is none of that id.
            UnknownPrincipal: there is no user of that name.
            InvalidRequest: it is somebody who can have no reservations.
            LimitExceeded: the other user has many offers to answer already.
            Conflict: it is offered to somebody else.
            Forbidden: it is somebody else's.
        """
        return operations.transfer(self._connection, reservation, user, wait=wait, timeout=timeout)

    def decline(
        self, reservation: str, timeout: float = operations.TIMEOUT
    ) -> reservations.Reservation:
        """Leave a reservation that is offered to this user to whoever has it.

        Raises:
            UnknownReservation: there is none of that id.
            Forbidden: it is not offered to this user.
        """
        return operations.decline(self._connection, reservation, timeout)
