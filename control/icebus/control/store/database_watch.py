"""Minds a database beside whoever uses it: ends waits for it, looks for it when it is away."""

from __future__ import annotations

from functools import partial

from icebus.control.store.database import Database
from icebus.control.store.probing import Probe, write
from icebus.control.store.watchdog import Watchdog


class DatabaseWatch:
    """The two threads that mind a database.

    Args:
        database: which one.
    """

    def __init__(self, database: Database) -> None:
        self._availability = database.availability
        self._watchdog = Watchdog(database.engine, database.availability)
        self._probe = Probe(
            partial(write, database.engine),
            database.availability.found,
            database.availability.failed,
        )

    def start(self) -> None:
        """End waits for it from now on."""
        self._watchdog.start()

    def look_for_it(self) -> None:
        """From now on whoever asks it while it is away is refused; its tables are made by now."""
        self._probe.start()
        self._availability.probe_with(self._probe.begin)

    def stop(self) -> None:
        """End both threads."""
        self._probe.stop()
        self._watchdog.stop()
