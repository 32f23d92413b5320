"""Telling workers which outcomes the user has, so that they can forget them."""

from __future__ import annotations

import threading

from icebus.client._connection.connection import Connection
from icebus.client._reservation.reservation import Reservation
from icebus.schemas.calls import Call
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError

AT_ONCE = 16
"""Outcomes to acknowledge in a call of their own. While there is more to evaluate they go
along with that: a call for each would double the traffic."""

IDLE = 2.0
"""Seconds until fewer are acknowledged: longer than a board takes for what a call brings it."""

TIMEOUT = 5.0
"""Seconds to try: a worker that never hears of it keeps a few lines more until the end."""


class Acknowledger:
    """Acknowledges outcomes in batches, best effort. Any thread may use it."""

    def __init__(self, connection: Connection, reservation: Reservation) -> None:
        self._connection = connection
        self._reservation = reservation
        self._lock = threading.Lock()
        self._pending: dict[str, list[str]] = {}
        self._scheduled = False

    def add(self, serial: str, evaluation: str) -> None:
        """The user has the outcome of that evaluation, or nobody will want it."""
        with self._lock:
            pending = self._pending.setdefault(serial, [])
            pending.append(evaluation)
            enough = len(pending) >= AT_ONCE
            schedule = not enough and not self._scheduled
            self._scheduled = self._scheduled or schedule
        if enough:
            self._send(serial)
        elif schedule:
            self._connection.bus.call_later(IDLE, self._idle)

    def take(self, serial: str) -> list[str]:
        """What can go along with a call to that board, and then counts as acknowledged."""
        with self._lock:
            return self._pending.pop(serial, [])

    def flush(self) -> None:
        """Acknowledge all."""
        with self._lock:
            serials = list(self._pending)
        for serial in serials:
            self._send(serial)

    def _idle(self) -> None:
        with self._lock:
            self._scheduled = False
        self.flush()

    def _send(self, serial: str) -> None:
        evaluations = self.take(serial)
        if not evaluations or self._reservation.ended is not None:
            return
        call = Call(
            reservation=self._reservation.id,
            serials=[serial],
            args={"evaluations": evaluations},
        )
        try:
            worker = self._reservation.device(serial).worker
            self._connection.call(worker, "acknowledge", call, Deadline.after(TIMEOUT))
        except IcebusError:
            return
