"""A look at control's database from outside, for health checks: it changes nothing there."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from icebus.control.store.database import Database
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError

_REVISION = "SELECT version_num FROM alembic_version"


@dataclass(frozen=True)
class DatabaseSeen:
    """What was seen of a database.

    Attributes:
        problem: why it does not answer; empty when it does.
        missing: what it lacks though it answers; empty for nothing.
        clock: what its server's clock shows, as seconds since 1970; None where that is ours.
    """

    problem: str = ""
    missing: str = ""
    clock: float | None = None


def file_of(url: str) -> str | None:
    """The path of an SQLite database; None for others."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        return None
    return parsed.database if parsed.get_backend_name() == "sqlite" else None


def look_at(url: str, deadline: Deadline) -> DatabaseSeen:
    """Ask a database for its tables' version, and for the time."""
    file = file_of(url)
    return _look_at_file(Path(file), deadline) if file else _look_at_server(url)


def _look_at_file(path: Path, deadline: Deadline) -> DatabaseSeen:
    if not path.exists():
        return DatabaseSeen(missing=f"there is no database at {path}: control makes one")
    try:
        # Not even the files that SQLite puts beside a database are made anew.
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=deadline.remaining)) as connection:
            connection.execute(_REVISION).fetchone()
    except sqlite3.Error as error:
        return DatabaseSeen(problem=f"its database {path} can't be read: {error}")
    return DatabaseSeen()


def _look_at_server(url: str) -> DatabaseSeen:
    try:
        database = Database(url)
    except IcebusError as error:
        return DatabaseSeen(problem=error.message)
    try:
        with database.engine.connect() as connection:
            connection.exec_driver_sql(_REVISION).fetchone()
            asked = time.time()
            now = connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())")
            clock = float(now.scalar_one()) - (time.time() - asked) / 2
    except SQLAlchemyError as error:
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        return DatabaseSeen(problem=f"its database does not answer: {said}")
    finally:
        database.close()
    return DatabaseSeen(clock=clock)
