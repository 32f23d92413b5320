"""From what a database's driver raises to why the database can't be used."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError

from icebus.schemas.database import DatabaseCause

_SQLITE: Mapping[int, DatabaseCause] = {
    sqlite3.SQLITE_BUSY: DatabaseCause.LOCKED,
    sqlite3.SQLITE_LOCKED: DatabaseCause.LOCKED,
    sqlite3.SQLITE_FULL: DatabaseCause.FULL,
    sqlite3.SQLITE_IOERR: DatabaseCause.DISK,
    sqlite3.SQLITE_READONLY: DatabaseCause.READ_ONLY,
    sqlite3.SQLITE_PERM: DatabaseCause.READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: DatabaseCause.MISSING,
    sqlite3.SQLITE_CORRUPT: DatabaseCause.DAMAGED,
    sqlite3.SQLITE_NOTADB: DatabaseCause.DAMAGED,
}
"""By primary result code: the low byte of the extended ones (sqlite.org/rescode.html)."""

_MOVED = sqlite3.SQLITE_READONLY | (4 << 8)
"""SQLITE_READONLY_DBMOVED: the file was renamed or deleted since it was opened."""

_POSTGRESQL: Mapping[str, DatabaseCause] = {
    "08": DatabaseCause.UNREACHABLE,  # connection exceptions
    "28": DatabaseCause.UNREACHABLE,  # invalid authorization
    "3D": DatabaseCause.UNREACHABLE,  # no such database
    "53300": DatabaseCause.UNREACHABLE,  # too many connections
    "57P": DatabaseCause.UNREACHABLE,  # shut down, or not yet up
    "25006": DatabaseCause.READ_ONLY,  # read-only transaction
    "42501": DatabaseCause.READ_ONLY,  # no privilege
    "53": DatabaseCause.FULL,  # disk, memory
    "54": DatabaseCause.FULL,
    "55P03": DatabaseCause.LOCKED,  # lock_timeout
    "40": DatabaseCause.LOCKED,  # others beat us to it every time
    "57014": DatabaseCause.SILENT,  # canceled, as by a statement_timeout
    "42P01": DatabaseCause.MISSING,  # no such table
    "3F": DatabaseCause.MISSING,  # no such schema
    "58": DatabaseCause.DISK,  # errors of the system
    "XX001": DatabaseCause.DAMAGED,
    "XX002": DatabaseCause.DAMAGED,
}
"""By the longest start of an SQLSTATE (postgresql.org/docs/15/errcodes-appendix.html)."""


def is_away(error: DBAPIError) -> bool:
    """Whether an error is of the database, and not of the one statement that it refused."""
    if isinstance(error, ProgrammingError):
        return cause_of(error) is not DatabaseCause.FAILED
    return not isinstance(error, IntegrityError | DataError)


def cause_of(error: DBAPIError) -> DatabaseCause:
    """Why the database failed."""
    raised = error.orig
    if isinstance(raised, sqlite3.Error):
        return _of_sqlite(raised)
    state = getattr(raised, "sqlstate", None)
    if state:
        for length in (5, 3, 2):
            if (cause := _POSTGRESQL.get(state[:length])) is not None:
                return cause
        return DatabaseCause.FAILED
    # libpq has no SQLSTATE for a connection that it could not make, or that broke.
    if error.connection_invalidated or _is_of_connection(raised):
        return DatabaseCause.UNREACHABLE
    return DatabaseCause.FAILED


def _of_sqlite(raised: sqlite3.Error) -> DatabaseCause:
    code = getattr(raised, "sqlite_errorcode", None)
    if code is None:
        return DatabaseCause.FAILED
    if code == _MOVED:
        return DatabaseCause.MISSING
    # A table that is not there is a plain error to SQLite; ours are made before anything is asked.
    if code == sqlite3.SQLITE_ERROR:
        return DatabaseCause.MISSING
    return _SQLITE.get(code & 0xFF, DatabaseCause.FAILED)


def _is_of_connection(raised: BaseException | None) -> bool:
    # Without the driver being imported where nobody has PostgreSQL.
    return type(raised).__module__.startswith("psycopg") and isinstance(raised, Exception)
