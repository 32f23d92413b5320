"""The database: SQLite in a file by default, PostgreSQL by URL."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlmodel import Session

from icebus.control.store import statistics
from icebus.control.store.availability import Availability
from icebus.control.store.database_failures import cause_of
from icebus.control.store.sqlite_file import SqliteFile
from icebus.control.store.watchdog import UNWATCHED
from icebus.schemas.database import DatabaseCause
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.programs.installation import EXTRAS, install_packages, not_importable
from icebus.schemas.programs.private_files import narrow, refuse_planted_link

LOG_SIZE = 4 << 20
"""Bytes that SQLite's log is cut to when it was longer for once, and begins anew."""

SHRINK_PAGES = 1000
"""Pages that a file of SQLite is shortened by at a time, within some ten milliseconds: 4 MB."""

INCREMENTAL = 2
"""What SQLite calls a file that gives room back when it is told to."""

BUSY_TIMEOUT = 5.0
"""Seconds to wait for somebody else's transaction, such as a backup's."""

STANDSTILL = 3.0
"""Seconds after which PostgreSQL gives up on a control that stands still in a transaction: less
than the others wait for it."""

MIGRATING = 0x1CEB05
"""Number of the lock that controls which start at once migrate under, one after the other."""

POSTGRESQL = {
    # All that control does waits meanwhile, also its heartbeat.
    "connect_timeout": 2,
    # A server that vanished without a word would otherwise hold control's one thread for minutes.
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "options": f"-c lock_timeout={int(BUSY_TIMEOUT * 1000)} "
    f"-c idle_in_transaction_session_timeout={int(STANDSTILL * 1000)}",
    "application_name": "icebus-control",
}
"""What we ask of a connection to PostgreSQL, unless the URL says otherwise."""

PASSES = frozenset(
    {
        DatabaseCause.UNREACHABLE,
        DatabaseCause.SILENT,
        DatabaseCause.LOCKED,
        DatabaseCause.FULL,
        DatabaseCause.DISK,
    }
)
"""What is waited for at the start: a database that starts later, or that others use. The rest, such
as a file that may not be written, is a mistake that somebody has to mend first."""

MIGRATIONS = Path(__file__).parent / "migrations"

BATCH = 1000
"""Names in one query: databases limit its parameters, and nothing limits what a worker lists."""

T = TypeVar("T", str, tuple[str, str])


class Database:
    """A database of control's, made ready by :meth:`migrate`.

    Args:
        url: ``sqlite:////path/to/file`` or ``postgresql://…``, in SQLAlchemy's form.

    Attributes:
        availability: whether it can be used, as whoever uses it tells that.

    Raises:
        InvalidRequest: the URL is not one, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self.availability = Availability()
        try:
            parsed = make_url(url)
            self.engine = _connect(parsed)
        except (ArgumentError, NoSuchModuleError, ValueError) as error:
            raise InvalidRequest(
                "a database's URL looks like sqlite:////var/lib/icebus/control.db or "
                f"postgresql://user:password@host/icebus ({error})"
            ) from None
        except ImportError as error:
            driver = error.name or "a driver"
            if driver in EXTRAS:
                raise not_importable(error, "this database") from None
            raise InvalidRequest(
                f"this database needs the driver {driver}: {install_packages(driver)}"
            ) from None
        except OSError as error:
            raise InvalidRequest(f"can't make the database's folder: {error}") from None
        self._where = parsed.render_as_string(hide_password=True)

    def migrate(self) -> None:
        """Bring the tables to this version.

        Raises:
            DatabaseUnavailable: it is away, or locked, which may pass.
            InvalidRequest: it can't be opened or was made by a newer version.
        """
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        try:
            # A table may be large, and nobody else is served meanwhile.
            unwatched = self.engine.execution_options(**{UNWATCHED: True})
            with self._migrating(), unwatched.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except DBAPIError as error:
            if cause_of(error) in PASSES:
                self.availability.failed(error)
                raise self.availability.refusal(error) from error
            raise InvalidRequest(
                f"can't open the database {self._where}: {' '.join(str(error.orig).split())}; "
                "check that it exists and runs, and that we may write to it"
            ) from None
        except CommandError as error:
            raise InvalidRequest(
                f"the database {self._where} was made by another version ({error}); "
                "run the newer icebus, or give another database"
            ) from None

        self._make_shrinkable()
        self.refresh_statistics(all_tables=not self._is_postgresql)

    def _make_shrinkable(self) -> None:
        """Write a file of an earlier version anew, which could not give room back."""
        if self._is_postgresql:
            return
        with suppress(DBAPIError, sqlite3.Error), self.engine.connect() as connection:
            raw = connection.connection.dbapi_connection
            if isinstance(raw, sqlite3.Connection):
                [mode] = raw.execute("PRAGMA auto_vacuum").fetchone()
                if mode != INCREMENTAL:
                    raw.execute("VACUUM")

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session whose changes are kept all together, or not at all when it raises.

        One exception: when the connection breaks while it commits, nobody knows
        (``DBAPIError.connection_invalidated``).

        Raises:
            Away: the database is away; it was not asked.
        """
        self.availability.check()
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def exclusive(self) -> Iterator[Session]:
        """A transaction like any of SQLite's: the others that are exclusive wait for its end.

        Controls that share a database would otherwise spend their time refused and trying again,
        for almost all that they do touches the same devices.
        """
        with self.transaction() as session:
            if self._is_postgresql:
                # A lock on a table is the one statement that does not fix what is seen after it.
                session.connection().exec_driver_sql("LOCK TABLE lease IN EXCLUSIVE MODE")
            yield session

    def shrink(self) -> None:
        """Give room that deleted rows had back to the disk, a bounded part of it.

        PostgreSQL does so itself: autovacuum lets later rows have it.
        """
        if self._is_postgresql:
            return
        # Steps that failed have said so before; this one is not missed.
        with suppress(DBAPIError, sqlite3.Error), self.engine.connect() as connection:
            raw = connection.connection.dbapi_connection
            if isinstance(raw, sqlite3.Connection):
                # Only as a script is it carried on beyond its first page.
                raw.executescript(f"PRAGMA incremental_vacuum({SHRINK_PAGES})")

    def refresh_statistics(self, *, all_tables: bool = False) -> None:
        """Have the database know how its tables are, for its plans; nothing depends on it.

        Args:
            all_tables: whether to look at all of them, or where much has changed.
        """
        statistics.refresh(self.engine, all_tables=all_tables)

    def clock(self, session: Session) -> float:
        """Seconds since 1970 by the clock that all who share the database share."""
        now = (
            "SELECT extract(epoch FROM clock_timestamp())"
            if self._is_postgresql
            else "SELECT (julianday('now') - 2440587.5) * 86400.0"
        )
        return float(session.connection().exec_driver_sql(now).scalar_one())

    @property
    def _is_postgresql(self) -> bool:
        return self.engine.dialect.name == "postgresql"

    @contextmanager
    def _migrating(self) -> Iterator[None]:
        if not self._is_postgresql:
            yield
            return
        # On a connection of its own: what the other one sees has to begin behind the lock.
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as guard:
            guard.exec_driver_sql(f"SELECT pg_advisory_lock({MIGRATING})")
            try:
                yield
            finally:
                guard.exec_driver_sql(f"SELECT pg_advisory_unlock({MIGRATING})")

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()


def batches(names: Collection[T]) -> Iterator[list[T]]:
    """Names in an order and in portions that a query can take."""
    ordered = sorted(names)
    for start in range(0, len(ordered), BATCH):
        yield ordered[start : start + BATCH]


def _connect(url: URL) -> Engine:
    backend = url.get_backend_name()
    if backend == "sqlite":
        if url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
            for suffix in ("", "-wal", "-shm"):
                refuse_planted_link(Path(url.database + suffix))
                narrow(Path(url.database + suffix))
        engine = create_engine(url)
        _tune_sqlite(engine)
        if url.database and url.database != ":memory:":
            SqliteFile(Path(url.database)).watch(engine)
        return engine
    if backend == "postgresql":
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        asked = {name: value for name, value in POSTGRESQL.items() if name not in url.query}
        # As if transactions ran one after the other, which is how they are thought: the loser of
        # two that meet is refused and tried again.
        return create_engine(url, connect_args=asked, isolation_level="SERIALIZABLE")
    return create_engine(url)


def _tune_sqlite(engine: Engine) -> None:
    """Make SQLite behave like a database: real transactions, foreign keys, readers beside us.

    With ``synchronous = normal`` a commit survives the end of our process but not always a power
    cut, which may cost the last ones; the file stays sound, and the workers' reports set right what
    the devices are.
    """

    def on_connect(connection: Any, _record: object) -> None:
        # Python's sqlite3 begins transactions late and by itself; we say when.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}")
        # Before there is anything in the file, or it has no effect until all is written anew.
        cursor.execute("PRAGMA auto_vacuum = INCREMENTAL")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute(f"PRAGMA journal_size_limit = {LOG_SIZE}")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    def on_begin(connection: Any) -> None:
        # A reader that wants to write later could be refused without waiting.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)
