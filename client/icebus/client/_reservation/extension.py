"""Extending a reservation for as long as its client lives."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future

from icebus.client._connection import operations
from icebus.client._connection.connection import Connection
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError, ReservationEnded, UnknownReservation
from icebus.schemas.operations.reservations import ExtendArgs, ExtendReply, Reservation

log = logging.getLogger(__name__)

RETRY = 5.0
"""Seconds until an extension that failed is tried again."""


class AutomaticExtension:
    """Extends a reservation whenever less than half of its duration is left.

    Counts on the monotonic clock what control said was left, so that clocks need not agree. All
    but :meth:`stop` and :meth:`end_moved` runs on the bus's dispatcher.

    Args:
        connection: to ask over.
        reservation: its id.
        on_extended: called with what control answers.
        on_ended: called when control says that it has ended.
    """

    def __init__(
        self,
        connection: Connection,
        reservation: str,
        on_extended: Callable[[Reservation], None],
        on_ended: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._id = reservation
        self._duration = 0.0
        self._ends_at = 0.0
        self._on_extended = on_extended
        self._on_ended = on_ended
        self._stopped = False

    def start(self, duration: float, remaining: float) -> None:
        """Begin.

        Args:
            duration: seconds that the reservation is for.
            remaining: seconds that are left of it.
        """
        self._duration = duration
        self._ends_at = time.monotonic() + remaining
        self._wait_until_due()

    def end_moved(self, seconds: float) -> None:
        """The end has moved, whoever moved it."""
        self._ends_at += seconds

    def stop(self) -> None:
        """Extend it no more."""
        self._stopped = True

    @property
    def _due_in(self) -> float:
        return self._ends_at - time.monotonic() - self._duration / 2

    def _wait_until_due(self) -> None:
        self._connection.bus.call_later(max(0.0, self._due_in), self._extend_if_due)

    def _extend_if_due(self) -> None:
        if self._stopped:
            return
        if self._due_in > 0.01:
            self._wait_until_due()
            return
        args = ExtendArgs(reservation=self._id, duration=self._duration / 2)
        deadline = Deadline.after(operations.TIMEOUT)
        answer = operations.send(self._connection, "extend", args, ExtendReply, deadline)
        answer.add_done_callback(self._on_answer)

    def _on_answer(self, answer: Future[ExtendReply]) -> None:
        retry = min(RETRY, self._duration / 8)
        try:
            extended = answer.result().reservation
        except (ReservationEnded, UnknownReservation) as error:
            log.warning("reservation %s is over: %s", self._id, error)
            self._stopped = True
            self._on_ended()
        except IcebusError as error:
            if not self._stopped:
                log.warning("could not extend reservation %s: %s", self._id, error)
                self._connection.bus.call_later(retry, self._extend_if_due)
        else:
            self._on_extended(extended)
            # Never at once: what an answer does not move must not make us ask for ever.
            self._connection.bus.call_later(max(retry, self._due_in), self._extend_if_due)
