"""Extending a reservation for as long as its client lives."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future

from pydantic import JsonValue

from icebus.client._connection.connection import Link, read_answer
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError, ReservationEnded, UnknownReservation
from icebus.schemas.reservations import ExtendArgs, ExtendReply, Reservation

log = logging.getLogger(__name__)

TIMEOUT = 15.0
"""Seconds for control to answer: it does within milliseconds unless it is being restarted."""

RETRY = 5.0
"""Seconds until an extension that failed is tried again."""


class KeepAlive:
    """Extends a reservation whenever less than half of its duration is left.

    Counts on the monotonic clock what control said was left, so that clocks need not agree. All
    but :meth:`stop` and :meth:`moved` runs on the bus's dispatcher.

    Args:
        link: to control.
        reservation: its id.
        extended: called with what control answers.
        over: called when control says that it has ended.
    """

    def __init__(
        self,
        link: Link,
        reservation: str,
        extended: Callable[[Reservation], None],
        over: Callable[[], None],
    ) -> None:
        self._link = link
        self._id = reservation
        self._duration = 0.0
        self._ends_at = 0.0
        self._extended = extended
        self._over = over
        self._stopped = False

    def start(self, duration: float, remaining: float) -> None:
        """Begin.

        Args:
            duration: seconds that the reservation is for.
            remaining: seconds that are left of it.
        """
        self._duration = duration
        self._ends_at = time.monotonic() + remaining
        self._wait()

    def _wait(self) -> None:
        self._link.bus.call_later(max(0.0, self._left - self._duration / 2), self._look)

    def moved(self, seconds: float) -> None:
        """The end has moved, whoever moved it."""
        self._ends_at += seconds

    def stop(self) -> None:
        """Extend it no more."""
        self._stopped = True

    @property
    def _left(self) -> float:
        return self._ends_at - time.monotonic()

    def _look(self) -> None:
        if self._stopped:
            return
        if self._left > self._duration / 2 + 0.01:
            self._wait()
            return
        args = ExtendArgs(reservation=self._id, duration=self._duration / 2)
        answer = self._link.send("extend", args, Deadline.after(TIMEOUT))
        answer.add_done_callback(self._on_answer)

    def _on_answer(self, answer: Future[JsonValue]) -> None:
        retry = min(RETRY, self._duration / 8)
        try:
            reply = read_answer(answer.result(), ExtendReply)
        except (ReservationEnded, UnknownReservation) as error:
            log.warning("reservation %s is over: %s", self._id, error)
            self._stopped = True
            self._over()
        except IcebusError as error:
            if not self._stopped:
                log.warning("could not extend reservation %s: %s", self._id, error)
                self._link.bus.call_later(retry, self._look)
        else:
            self._extended(reply.reservation)
            # Never at once: what an answer does not move must not make us ask for ever.
            pause = max(retry, self._left - self._duration / 2)
            self._link.bus.call_later(pause, self._look)
