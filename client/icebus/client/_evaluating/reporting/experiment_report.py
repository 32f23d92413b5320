"""Telling how an experiment stands, for pages that the same user looks at."""

from __future__ import annotations

import threading
import time

from icebus.client._connection.connection import Connection
from icebus.client._evaluating.reporting.tally import Tally
from icebus.schemas.measuring import Outcome
from icebus.schemas.message import now
from icebus.schemas.topics import EXPERIMENT

INTERVAL = 5.0
"""Seconds between two reports. Pages hear each outcome at once; this is what they can't know."""

FIRST_AFTER = 10.0
"""Seconds after which an experiment is told of: what takes less is over before anybody looks, and
the broker would keep it for hours."""


class ExperimentReport:
    """Publishes the sums of all runs with one reservation, while they change.

    Args:
        connection: to the farm.
        reservation: its id.
        kind: what it is for.
    """

    def __init__(self, connection: Connection, reservation: str, kind: str) -> None:
        self._connection = connection
        self._topic = EXPERIMENT(
            user=connection.user, client=connection.client, reservation=reservation
        )
        # Outcomes are added on the caller's thread, of which there may be several.
        self._lock = threading.Lock()
        self._tally = Tally(reservation, kind)
        self._due = False
        self._told = False
        self._not_before: float | None = None

    def begin(self, total: int | None) -> None:
        """A run begins, of so many outcomes if that is known."""
        with self._lock:
            if self._not_before is None:
                self._not_before = time.monotonic() + FIRST_AFTER
            self._tally.begin(total, now())
            self._changed()

    def add(self, outcome: Outcome) -> None:
        """An outcome of a run has come."""
        with self._lock:
            self._tally.add(outcome, now())
            self._changed()

    def end(self) -> None:
        """A run is over."""
        with self._lock:
            self._tally.end(now())
            self._changed()

    def flush(self) -> None:
        """Tell at once how it ended, if it has been told of."""
        with self._lock:
            if self._due and self._told:
                self._publish()
            self._due = False

    def _changed(self) -> None:
        if not self._due:
            self._due = True
            wait = (self._not_before or 0.0) - time.monotonic()
            self._connection.bus.call_later(max(0.0, wait), self._report)

    def _report(self) -> None:
        with self._lock:
            if not self._due:
                return
            if self._connection.bus.connected:
                self._publish()
            else:  # reports would pile up until it is
                self._connection.bus.call_later(INTERVAL, self._report)

    def _publish(self) -> None:
        self._due = False
        self._not_before = time.monotonic() + INTERVAL
        self._told = True
        if (told := self._tally.told(now())) is not None:
            self._connection.bus.publish(self._topic, told)
