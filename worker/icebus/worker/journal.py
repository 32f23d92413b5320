"""What one device has accepted and how it ended, on disk until the client has acknowledged it.

An evaluation is accepted once it stands here. SQLite in WAL mode with ``synchronous=NORMAL`` keeps
what is committed through the death of the process (not through a power cut) without waiting for
the disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

KEPT = 10_000
"""Unacknowledged outcomes kept for a client that never acknowledges, newest first."""

_TABLE = """
CREATE TABLE IF NOT EXISTS evaluations (
    position INTEGER PRIMARY KEY,
    reservation TEXT NOT NULL,
    evaluation TEXT NOT NULL,
    entry TEXT NOT NULL,
    event TEXT,
    outcome TEXT,
    UNIQUE (reservation, evaluation)
)
"""


@dataclass(frozen=True)
class Settled:
    """An evaluation's outcome: the event it was sent as, and its JSON."""

    evaluation: str
    event: str
    outcome: str


class Journal:
    """The journal of one device. Used on one thread.

    Args:
        path: the database file, made if missing.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=5, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA cache_size=-128")  # KiB: there may be hundreds of devices
        self._db.execute(_TABLE)

    def accept(self, reservation: str, entries: Iterable[tuple[str, str]]) -> None:
        """Accept evaluations, all or none: pairs of id and a JSON text that describes it."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany(
                "INSERT INTO evaluations (reservation, evaluation, entry) VALUES (?, ?, ?)",
                [(reservation, evaluation, entry) for evaluation, entry in entries],
            )
            self._db.execute(
                "DELETE FROM evaluations WHERE outcome IS NOT NULL AND position <= "
                "(SELECT MAX(position) FROM evaluations) - ?",
                (KEPT,),
            )
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    def knows(self, reservation: str, evaluation: str) -> bool:
        """Whether that evaluation was accepted and is not yet forgotten."""
        found = self._db.execute(
            "SELECT 1 FROM evaluations WHERE reservation = ? AND evaluation = ?",
            (reservation, evaluation),
        )
        return found.fetchone() is not None

    def settle(self, reservation: str, evaluation: str, event: str, outcome: str) -> None:
        """Write down an outcome; the first one stands."""
        self._db.execute(
            "UPDATE evaluations SET event = ?, outcome = ? "
            "WHERE reservation = ? AND evaluation = ? AND outcome IS NULL",
            (event, outcome, reservation, evaluation),
        )

    def unsettled(self, reservation: str) -> list[str]:
        """The descriptions of accepted evaluations without an outcome, oldest first."""
        found = self._db.execute(
            "SELECT entry FROM evaluations WHERE reservation = ? AND outcome IS NULL "
            "ORDER BY position",
            (reservation,),
        )
        return [entry for (entry,) in found]

    def settled(self, reservation: str, evaluation: str | None = None) -> list[Settled]:
        """Outcomes not yet acknowledged, oldest first; of one evaluation or of all."""
        found = self._db.execute(
            "SELECT evaluation, event, outcome FROM evaluations "
            "WHERE reservation = ? AND outcome IS NOT NULL "
            "AND evaluation = COALESCE(?, evaluation) ORDER BY position",
            (reservation, evaluation),
        )
        return [Settled(*row) for row in found]

    def count_settled(self, reservation: str) -> int:
        """How many outcomes are not yet acknowledged."""
        found = self._db.execute(
            "SELECT COUNT(*) FROM evaluations WHERE reservation = ? AND outcome IS NOT NULL",
            (reservation,),
        )
        return int(found.fetchone()[0])

    def acknowledge(self, reservation: str, evaluations: Iterable[str]) -> int:
        """Forget outcomes the client has; returns how many there were."""
        named = [(reservation, evaluation) for evaluation in evaluations]
        if not named:
            return 0
        self._db.execute("BEGIN IMMEDIATE")
        changed = self._db.executemany(
            "DELETE FROM evaluations "
            "WHERE reservation = ? AND evaluation = ? AND outcome IS NOT NULL",
            named,
        ).rowcount
        self._db.execute("COMMIT")
        return max(0, changed)

    def keep_only(self, reservation: str | None) -> None:
        """Forget all that belongs to other reservations, which are over."""
        self._db.execute("DELETE FROM evaluations WHERE reservation IS NOT ?", (reservation,))

    def close(self) -> None:
        """Close the file."""
        self._db.close()
