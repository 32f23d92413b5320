"""Journals of boards that are gone for good, which are removed: nobody asks for them any more."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Collection
from pathlib import Path

log = logging.getLogger(__name__)

SUFFIX = ".sqlite"

KEPT_DAYS = 30.0
"""Days after what was last written: as long as control remembers reservations that have ended,
unless it is told otherwise."""

_BESIDE = ("-wal", "-shm")


def remove_old_journals(directory: Path, known: Collection[str]) -> list[str]:
    """Remove the journals of boards that have not been here for long.

    One that can't be read or removed stays; the next start looks at it again.

    Args:
        directory: where journals are.
        known: names of boards that are here, or wanted: theirs stay.

    Returns:
        The boards whose journals were removed.
    """
    oldest = time.time() - KEPT_DAYS * 86_400
    removed = []
    with contextlib.suppress(OSError):
        for path in sorted(directory.glob(f"*{SUFFIX}")):
            if path.stem in known or path.is_symlink():
                continue
            with contextlib.suppress(OSError, sqlite3.Error):
                if _written(path) < oldest and _is_journal(path):
                    for each in _files(path):
                        each.unlink(missing_ok=True)
                    removed.append(path.stem)
    if removed:
        log.info(
            "removed the journals of %d boards that were not here for %g days",
            len(removed),
            KEPT_DAYS,
        )
    return removed


def _files(path: Path) -> list[Path]:
    # The log before the file that it belongs to: alone it would be taken for that of the next one.
    return [*(path.with_name(path.name + suffix) for suffix in _BESIDE), path]


def _written(path: Path) -> float:
    """When any of its files was last written, in seconds since 1970."""
    return max(each.stat().st_mtime for each in _files(path) if each.exists())


def _is_journal(path: Path) -> bool:
    """Whether it is one of ours: the folder may be one that others use, too."""
    with contextlib.closing(sqlite3.connect(path, timeout=0)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {"evaluations", "nonces"} <= {name for (name,) in tables}
