"""What administrators do with a farm: end what others hold, look after boards, empty workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel

from icebus.client._connection import operations
from icebus.client._connection.connection import serials_of, validated
from icebus.client._connection.operations import TIMEOUT
from icebus.client._session import Session
from icebus.schemas.errors import NotAuthorized
from icebus.schemas.operations import administration, reservations
from icebus.schemas.operations.administration import (
    DevicesChanged,
    WorkerChanged,
    WorkerRetired,
)
from icebus.schemas.operations.reservations import ReservationReply
from icebus.schemas.topics import ADMIN

A = TypeVar("A", bound=BaseModel)


class Admin(Session):
    """A session of an administrator. All that it changes stands in the history, with the reason.

    >>> with Admin(farm="admin") as admin:  # doctest: +SKIP
    ...     admin.quarantine(["E6616407E308B9E2"], "loose USB socket")

    Every method raises :class:`NotAuthorized` for users who are no administrators.
    """

    def end(
        self, reservation: str, reason: str = "", timeout: float = TIMEOUT
    ) -> reservations.Reservation:
        """End anybody's reservation.

        Raises:
            UnknownReservation: there is none of that id.
            ReservationEnded: it is over.
        """
        args = {"reservation": reservation, "reason": reason}
        return self._ask("end", args, ReservationReply, timeout).reservation

    def reboot(
        self, serials: Sequence[str], reason: str = "", timeout: float = TIMEOUT
    ) -> list[str]:
        """Restart boards; what they measure fails.

        Raises:
            UnknownDevice: there is no such device.
        """
        return self._change("reboot", serials, reason, timeout)

    def reflash(
        self, serials: Sequence[str], reason: str = "", timeout: float = TIMEOUT
    ) -> list[str]:
        """Write boards' firmware anew; what they measure fails.

        Raises:
            UnknownDevice: there is no such device.
        """
        return self._change("reflash", serials, reason, timeout)

    def quarantine(
        self, serials: Sequence[str], reason: str, timeout: float = TIMEOUT
    ) -> list[str]:
        """Give devices to nobody until told otherwise; they fail those who hold them.

        Raises:
            UnknownDevice: there is no such device.
        """
        return self._change("quarantine", serials, reason, timeout)

    def unquarantine(
        self, serials: Sequence[str], reason: str = "", timeout: float = TIMEOUT
    ) -> list[str]:
        """Let devices be reserved again.

        Raises:
            UnknownDevice: there is no such device.
        """
        return self._change("unquarantine", serials, reason, timeout)

    def forget(
        self, serials: Sequence[str], reason: str = "", timeout: float = TIMEOUT
    ) -> list[str]:
        """Drop devices that are gone for good; one that comes back is known anew.

        Raises:
            UnknownDevice: there is no such device.
            Conflict: a device is there still.
        """
        return self._change("forget", serials, reason, timeout)

    def move(
        self, serials: Sequence[str], to: str, reason: str = "", timeout: float = TIMEOUT
    ) -> list[str]:
        """Have boards belong to a worker that says it has them; reservations go with them.

        Raises:
            UnknownDevice: there is no such device.
            Conflict: that worker does not have it, or is not there.
        """
        args = {"serials": serials_of(serials), "to": to, "reason": reason}
        return self._ask("move", args, DevicesChanged, timeout).serials

    def retire(self, worker: str, reason: str = "", timeout: float = TIMEOUT) -> WorkerRetired:
        """Forget a worker that is gone for good, with all that is retained of it.

        What others held of it fails, to be replaced where that is wanted. A worker that is retired
        already is retired once more, which changes nothing.

        Raises:
            InvalidRequest: there was never such a worker.
            Conflict: it is there still.
        """
        args = {"worker": worker, "reason": reason}
        return self._ask("retire", args, WorkerRetired, timeout)

    def drain(self, worker: str, reason: str = "", timeout: float = TIMEOUT) -> list[str]:
        """Let a worker finish its reservations and give it no new ones.

        Returns:
            The reservations that it has to finish.
        """
        return self._empty("drain", worker, reason, timeout)

    def undrain(self, worker: str, reason: str = "", timeout: float = TIMEOUT) -> list[str]:
        """Let a worker have reservations again.

        Returns:
            The reservations that it has.
        """
        return self._empty("undrain", worker, reason, timeout)

    def _change(
        self, operation: str, serials: Sequence[str], reason: str, timeout: float
    ) -> list[str]:
        args = {"serials": serials_of(serials), "reason": reason}
        return self._ask(operation, args, DevicesChanged, timeout).serials

    def _empty(self, operation: str, worker: str, reason: str, timeout: float) -> list[str]:
        args = {"worker": worker, "reason": reason}
        return self._ask(operation, args, WorkerChanged, timeout).reservations

    def _ask(self, operation: str, args: Mapping[str, object], model: type[A], timeout: float) -> A:
        takes, _ = administration.OPERATIONS[operation]
        request = validated(takes, operation, **args)
        try:
            return operations.ask(
                self._connection, operation, request, model, timeout, family=ADMIN
            )
        except NotAuthorized:
            raise NotAuthorized(
                f"{self.user} is no administrator, and only those may {operation}; on this "
                "machine's own farm: `icebus --farm admin admin …`, elsewhere ask whoever runs "
                "it",
                user=self.user,
                operation=operation,
            ) from None
