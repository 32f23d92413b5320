"""Waits for the database that have an end: one that takes what it is asked, and stands still.

A server whose process is stopped, or whose disk hangs, is there for TCP and for its socket, so
that no time-out of a connection ends. All that control does would wait for it, heartbeats too.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, event

from icebus.control.store.availability import Availability
from icebus.schemas.database import DatabaseCause

log = logging.getLogger(__name__)

OVERDUE = 3.0
"""Seconds of waiting for one statement after which others are told that the database is silent."""

DEADLINE = 8.0
"""Seconds after which we wait no more: longer than for anybody's lock."""

SLOW = 3.0
"""Seconds of waiting in one transaction with which a database is slow: one takes milliseconds."""

TICK = 0.5
"""Seconds between looks."""

UNWATCHED = "icebus_unwatched"
"""Execution option of a connection that may take as long as it takes, such as a migration's."""


@dataclass
class _Waits:
    """What one connection is waited for."""

    connection: Any
    waited: float = 0.0
    since: float | None = None
    broken: bool = False


class Watchdog:
    """Watches all waits for one database, on a thread of its own.

    Args:
        engine: of the database.
        availability: is told what is found out.
    """

    def __init__(self, engine: Engine, availability: Availability) -> None:
        self._engine = engine
        self._availability = availability
        self._lock = threading.Lock()
        self._waits: dict[int, _Waits] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="database-watchdog", daemon=True)

    def start(self) -> None:
        """Begin."""
        event.listen(self._engine, "before_cursor_execute", self._on_begin)
        event.listen(self._engine, "after_cursor_execute", self._on_end)
        # After a commit, or what fails, its connection goes back, or is given up.
        event.listen(self._engine, "commit", self._on_commit)
        event.listen(self._engine, "checkin", self._on_checkin)
        event.listen(self._engine, "invalidate", self._on_checkin)
        self._thread.start()

    def stop(self) -> None:
        """End; whoever waits goes on waiting."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(TICK * 4)

    def _on_begin(self, connection: Connection, *_: object) -> None:
        self._on_commit(connection)

    def _on_commit(self, connection: Connection) -> None:
        if connection.get_execution_options().get(UNWATCHED):
            return
        raw = connection.connection.dbapi_connection
        with self._lock:
            waits = self._waits.setdefault(id(raw), _Waits(raw))
            waits.since = time.monotonic()

    def _on_end(self, connection: Connection, *_: object) -> None:
        with self._lock:
            self._account(self._waits.get(id(connection.connection.dbapi_connection)))

    def _on_checkin(self, raw: object, *_: object) -> None:
        with self._lock:
            waits = self._waits.pop(id(raw), None)
            self._account(waits)
        if waits is not None:
            self._availability.took(waits.waited, slow=waits.waited >= SLOW)

    def _account(self, waits: _Waits | None) -> None:
        if waits is not None and waits.since is not None:
            waits.waited += time.monotonic() - waits.since
            waits.since = None

    def _run(self) -> None:
        while not self._stop.wait(TICK):
            at = time.monotonic()
            with self._lock:
                waits = [(each, at - each.since) for each in self._waits.values() if each.since]
            for each, seconds in waits:
                if seconds > DEADLINE and not each.broken:
                    each.broken = True
                    _break(each.connection)
                elif seconds > OVERDUE:
                    # SQLite stands still for nothing but others' locks.
                    served = hasattr(each.connection, "fileno")
                    cause = DatabaseCause.SILENT if served else DatabaseCause.LOCKED
                    self._availability.suspect(cause, f"no answer for {seconds:.0f} s")
                elif each.waited + seconds > SLOW:
                    why = f"a transaction takes longer than {SLOW:g} s"
                    self._availability.suspect(DatabaseCause.SLOW, why)


def _break(raw: Any) -> None:
    """Cut a connection to a server, so that whoever waits for it learns that it is gone.

    SQLite has none: it waits for others' locks, and only for so long.
    """
    if not hasattr(raw, "fileno"):
        return
    with contextlib.suppress(Exception):
        # A copy, for the number may be another file's by the time that we use it.
        with socket.socket(fileno=os.dup(raw.fileno())) as copy:
            copy.shutdown(socket.SHUT_RDWR)
        log.warning("the connection to the database is cut: no answer for %.0f s", DEADLINE)
