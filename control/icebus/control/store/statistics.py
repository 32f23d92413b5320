"""What the database knows of its tables when it plans, kept up to date where nobody else does it.

Without statistics PostgreSQL reads tables that it takes for small, and reserving on a farm that was
used for long takes twice as long: after a restore, where autovacuum is off or late, and after much
was deleted.
"""

from __future__ import annotations

import logging
import sqlite3

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import SQLModel

from icebus.control.store.watchdog import UNWATCHED

log = logging.getLogger(__name__)

CHANGED = 500
"""Rows that change before statistics count as old, and a tenth of the table: as autovacuum has it,
with its base of 50 for tables that one farm fills with little."""

ROWS_READ = 1000
"""Rows of each index that SQLite reads at most: milliseconds, however large the table."""

_OLD = text(
    "SELECT relname FROM pg_stat_user_tables WHERE relname = ANY(:ours) AND (:all_tables "
    "OR coalesce(last_analyze, last_autoanalyze) IS NULL AND n_mod_since_analyze > 0 "
    "OR n_mod_since_analyze > :changed + n_live_tup / 10) ORDER BY relname"
)


def refresh(engine: Engine, *, all_tables: bool = False) -> None:
    """Have the database look at those of control's tables that changed much since it did.

    It costs a few milliseconds where nothing has, and some tenths of a second for a large table.
    Nothing depends on it: what fails is left for the next time.

    Args:
        engine: of the database.
        all_tables: whether to look at all of them, as after they were put back.
    """
    try:
        if engine.dialect.name == "postgresql":
            _refresh_postgresql(engine, all_tables)
        elif engine.dialect.name == "sqlite":
            _refresh_sqlite(engine, all_tables)
    except (DBAPIError, sqlite3.Error) as error:
        log.debug("the database's statistics could not be refreshed: %s", error)


def _refresh_postgresql(engine: Engine, all_tables: bool) -> None:
    ours = sorted(SQLModel.metadata.tables)
    asked = {"ours": ours, "changed": CHANGED, "all_tables": all_tables}
    options = {"isolation_level": "AUTOCOMMIT", UNWATCHED: True}
    with engine.connect().execution_options(**options) as connection:
        old = connection.scalars(_OLD, asked).all()
        for table in old:
            connection.exec_driver_sql(f'ANALYZE "{table}"')
    if old:
        log.debug("the database has looked at %s anew", ", ".join(old))


def _refresh_sqlite(engine: Engine, all_tables: bool) -> None:
    with engine.connect() as connection:
        raw = connection.connection.dbapi_connection
        if not isinstance(raw, sqlite3.Connection):
            return
        raw.execute(f"PRAGMA analysis_limit = {ROWS_READ}")
        # The latter looks only at tables that were asked on this connection, and have grown much.
        raw.execute("ANALYZE" if all_tables and _is_large(raw) else "PRAGMA optimize")


def _is_large(raw: sqlite3.Connection) -> bool:
    """Whether plans matter: what is learned of a few rows is wrong when there are many."""
    some = f"SELECT count(*) FROM (SELECT 1 FROM reservations LIMIT {ROWS_READ})"  # noqa: S608
    [rows] = raw.execute(some).fetchone()
    return bool(rows == ROWS_READ)
