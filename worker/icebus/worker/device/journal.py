"""What one device has accepted and how it ended, on disk.

So no evaluation is measured twice, and no outcome is lost before the client has acknowledged it.
An evaluation is accepted once it stands here. SQLite in WAL mode with ``synchronous=NORMAL`` keeps
what is committed through the death of the process (not through a power cut) without waiting for
the disk.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from icebus.schemas.errors import InvalidRequest, JournalUnavailable
from icebus.schemas.programs.private_files import narrow, open_private

P = ParamSpec("P")
T = TypeVar("T")

KEPT = 10_000
"""Unacknowledged outcomes kept for a client that never acknowledges, newest first."""

REMEMBERED = 500
"""Acknowledged ones kept, so that an evaluation that is sent again is not measured again: what was
sent in the last half minute even at twenty a second. More would make every write slower."""

PRUNE_EVERY = 64
"""Evaluations accepted before those too many are looked for."""

LOG_PAGES = 400
"""Pages of SQLite's log after which they are moved into the file: 1.6 MB. By its own 1,000 the log
of each device takes 4 MB; with 128 an evaluation took twice as long, waiting for the disk."""

LOG_SIZE = 1 << 19
"""Bytes that the log is cut to when one large batch made it longer, once it begins anew."""

SHRINK_PAGES = 256
"""Pages that the file gives back to the disk when a reservation is over, within a few milliseconds:
a megabyte. All devices wait meanwhile."""

_INCREMENTAL = 2
"""What SQLite calls a file that gives room back when it is told to."""

LOCKED_SECONDS = 0.2
"""How long somebody else, such as a backup, may hold the file: all devices wait meanwhile."""

_TABLES = """
CREATE TABLE IF NOT EXISTS evaluations (
    position INTEGER PRIMARY KEY,
    reservation TEXT NOT NULL,
    evaluation TEXT NOT NULL,
    entry TEXT NOT NULL,
    event TEXT,
    outcome TEXT,
    acknowledged INTEGER NOT NULL DEFAULT 0,
    UNIQUE (reservation, evaluation)
);
CREATE TABLE IF NOT EXISTS nonces (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""


@dataclass(frozen=True)
class StoredOutcome:
    """An evaluation's outcome: the event it was sent as, and its JSON."""

    evaluation: str
    event: str
    outcome: str
    position: int = 0


def _typed(method: Callable[P, T]) -> Callable[P, T]:
    """A full disk or a locked file is nobody's mistake here: callers get an error they know."""

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise
        except (sqlite3.DatabaseError, OSError) as error:
            raise JournalUnavailable(
                f"the worker's journal can't be used ({error}); make room on the worker's disk, or "
                "end what locks its files",
                reason=str(error),
            ) from error

    return call


class Journal:
    """The journal of one device. Used on one thread.

    Args:
        path: the database file, made if missing.

    Raises:
        JournalUnavailable: from every method, when the disk is full or the file is locked; what it
            was to change is then as before.
    """

    @_typed
    def __init__(self, path: Path) -> None:
        self._unpruned = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite follows links, and leaves a file's mode as it is.
        try:
            os.close(open_private(path))
            for suffix in ("-wal", "-shm"):
                narrow(path.with_name(path.name + suffix))
        except InvalidRequest as error:
            raise JournalUnavailable(f"the worker's journal can't be used: {error}") from error
        self._db = sqlite3.connect(path, timeout=LOCKED_SECONDS, isolation_level=None)
        try:
            self._bound_size()
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute("PRAGMA cache_size=-128")  # KiB: there may be hundreds of devices
            self._upgrade()
            self._db.executescript(_TABLES)
        except BaseException:
            self._db.close()
            raise

    @_typed
    def accept(
        self,
        reservation: str,
        entries: Iterable[tuple[str, str]],
        again: Iterable[str] = (),
    ) -> None:
        """Accept evaluations, all or none: pairs of id and a JSON text that describes it.

        Those of ``again`` may have failed before, which is forgotten.
        """
        rows = [(reservation, evaluation, entry) for evaluation, entry in entries]
        with self._transaction():
            self._db.executemany(
                "DELETE FROM evaluations WHERE reservation = ? AND evaluation = ?",
                [(reservation, evaluation) for evaluation in again],
            )
            self._db.executemany(
                "INSERT INTO evaluations (reservation, evaluation, entry) VALUES (?, ?, ?)",
                rows,
            )
            self._unpruned += len(rows)
            if self._unpruned >= PRUNE_EVERY:
                self._prune()

    @_typed
    def knows(self, reservation: str, evaluation: str) -> bool:
        """Whether that evaluation was accepted and is not yet forgotten."""
        found = self._db.execute(
            "SELECT 1 FROM evaluations WHERE reservation = ? AND evaluation = ?",
            (reservation, evaluation),
        )
        return found.fetchone() is not None

    @_typed
    def write_outcome(self, reservation: str, evaluation: str, event: str, outcome: str) -> None:
        """Write down an outcome; the first one stands."""
        self._db.execute(
            "UPDATE evaluations SET event = ?, outcome = ? "
            "WHERE reservation = ? AND evaluation = ? AND outcome IS NULL",
            (event, outcome, reservation, evaluation),
        )

    @_typed
    def without_outcome(self, reservation: str) -> list[str]:
        """The descriptions of accepted evaluations without an outcome, oldest first."""
        found = self._db.execute(
            "SELECT entry FROM evaluations WHERE reservation = ? AND acknowledged = 0 "
            "AND outcome IS NULL ORDER BY position",
            (reservation,),
        )
        return [entry for (entry,) in found]

    @_typed
    def outcome(self, reservation: str, evaluation: str) -> StoredOutcome | None:
        """The outcome of one evaluation, acknowledged or not; None while there is none."""
        found = self._db.execute(
            "SELECT evaluation, event, outcome, position FROM evaluations "
            "WHERE reservation = ? AND evaluation = ? AND outcome IS NOT NULL",
            (reservation, evaluation),
        ).fetchone()
        return None if found is None else StoredOutcome(*found)

    @_typed
    def outcomes(self, reservation: str, after: int = 0, limit: int = -1) -> list[StoredOutcome]:
        """Outcomes not yet acknowledged, oldest first; a page of them, or all."""
        found = self._db.execute(
            "SELECT evaluation, event, outcome, position FROM evaluations "
            "WHERE reservation = ? AND acknowledged = 0 AND position > ? "
            "AND outcome IS NOT NULL ORDER BY position LIMIT ?",
            (reservation, after, limit),
        )
        return [StoredOutcome(*row) for row in found]

    @_typed
    def count_outcomes(self, reservation: str) -> int:
        """How many outcomes are not yet acknowledged."""
        found = self._db.execute(
            "SELECT COUNT(*) FROM evaluations "
            "WHERE reservation = ? AND acknowledged = 0 AND outcome IS NOT NULL",
            (reservation,),
        )
        return int(found.fetchone()[0])

    @_typed
    def acknowledge(self, reservation: str, evaluations: Iterable[str]) -> int:
        """Repeat outcomes no more that the client has; returns how many there were."""
        named = [(reservation, evaluation) for evaluation in evaluations]
        if not named:
            return 0
        with self._transaction():
            changed = self._db.executemany(
                "UPDATE evaluations SET acknowledged = 1, entry = '' WHERE reservation = ? "
                "AND evaluation = ? AND outcome IS NOT NULL AND acknowledged = 0",
                named,
            ).rowcount
        return max(0, changed)

    @_typed
    def keep_only(self, reservation: str | None) -> None:
        """Forget all that belongs to other reservations, which are over."""
        forgotten = self._db.execute(
            "DELETE FROM evaluations WHERE reservation IS NOT ?", (reservation,)
        )
        if forgotten.rowcount:
            # Only as a script is it carried on beyond its first page.
            self._db.executescript(f"PRAGMA incremental_vacuum({SHRINK_PAGES})")

    @_typed
    def nonces(self) -> dict[str, int]:
        """The commands last acted on, by name; empty for a device never met before."""
        return dict(self._db.execute("SELECT name, value FROM nonces"))

    @_typed
    def write_nonces(self, nonces: dict[str, int]) -> None:
        """Write down commands as acted on."""
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO nonces VALUES (?, ?)", nonces.items())

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _prune(self) -> None:
        self._unpruned = 0
        for condition, kept in (("outcome IS NOT NULL", KEPT), ("acknowledged", REMEMBERED)):
            self._db.execute(
                f"DELETE FROM evaluations WHERE {condition} AND position <= "  # noqa: S608
                "(SELECT MAX(position) FROM evaluations) - ?",
                (kept,),
            )

    def _bound_size(self) -> None:
        """Have the file and its log give back the room that they needed for once."""
        self._db.execute(f"PRAGMA wal_autocheckpoint={LOG_PAGES}")
        self._db.execute(f"PRAGMA journal_size_limit={LOG_SIZE}")
        self._db.execute("PRAGMA auto_vacuum=INCREMENTAL")
        [mode] = self._db.execute("PRAGMA auto_vacuum").fetchone()
        if mode != _INCREMENTAL:
            # A file of an earlier version is written anew, if there is room; it works as it is.
            with contextlib.suppress(sqlite3.OperationalError):
                self._db.execute("VACUUM")

    def _upgrade(self) -> None:
        """Before 0.2 what was acknowledged was forgotten."""
        columns = {name for _, name, *_ in self._db.execute("PRAGMA table_info(evaluations)")}
        if columns and "acknowledged" not in columns:
            self._db.execute(
                "ALTER TABLE evaluations ADD COLUMN acknowledged INTEGER NOT NULL DEFAULT 0"
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # A full disk may have ended the transaction already.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
