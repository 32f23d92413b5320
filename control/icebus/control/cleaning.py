"""When the leader deletes what is too old: a little at a time, so that requests come in between."""

from __future__ import annotations

import time
from collections.abc import Callable

from icebus.control.operations.due.retention import drop_some
from icebus.control.store.database import Database
from icebus.control.transaction import Transaction

EVERY = 60.0
"""Seconds between looks for what has become too old."""

PAUSE = 0.1
"""Seconds between portions, where there is more than one."""


class Cleaning:
    """Deletes what is too old, and has the database know what is left.

    Args:
        database: where from.

    Attributes:
        at: when to do so next, on the monotonic clock.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.at = time.monotonic() + EVERY

    def run_if_due(self, run: Callable[[Callable[[Transaction], None]], bool]) -> None:
        """Delete a portion, if it is time.

        Args:
            run: carries out a step of the leader; says whether it is done with.
        """
        if time.monotonic() < self.at:
            return
        more = False

        def step(transaction: Transaction) -> None:
            nonlocal more
            more = drop_some(transaction)

        done = run(step)
        if done and not more:
            self._database.shrink()
            self._database.refresh_statistics()
        self.at = time.monotonic() + (PAUSE if more else EVERY)
