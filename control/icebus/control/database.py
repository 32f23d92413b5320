"""The database: SQLite in a file by default, PostgreSQL by URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlmodel import Session

from icebus.schemas.errors import InvalidRequest

BUSY_TIMEOUT = 5.0
"""Seconds SQLite waits for somebody else's transaction, such as a backup's."""

MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """A database of control's, made ready by :meth:`migrate`.

    Args:
        url: in SQLAlchemy's form: ``sqlite:////path/to/file`` or ``postgresql+psycopg://…``.

    Raises:
        InvalidRequest: the URL is not one, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
            if parsed.get_backend_name() == "sqlite" and parsed.database:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            self.engine = create_engine(parsed)
        except (ArgumentError, NoSuchModuleError, ValueError) as error:
            raise InvalidRequest(
                "a database's URL looks like sqlite:////var/lib/icebus/control.db or "
                f"postgresql+psycopg://user:password@host/icebus ({error})"
            ) from None
        except ImportError as error:
            raise InvalidRequest(
                f"this database needs a driver: `pip install {error.name}` beside icebus"
            ) from None
        except OSError as error:
            raise InvalidRequest(f"can't make the database's folder: {error}") from None
        self._where = parsed.render_as_string(hide_password=True)
        if self.engine.dialect.name == "sqlite":
            _tune_sqlite(self.engine)

    def migrate(self) -> None:
        """Bring the tables to this version.

        Raises:
            InvalidRequest: the database can't be opened or was made by a newer version.
        """
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        try:
            with self.engine.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except DBAPIError as error:
            raise InvalidRequest(
                f"can't open the database {self._where}: {error.orig}; "
                "check that it exists and that we may write to it"
            ) from None
        except CommandError as error:
            raise InvalidRequest(
                f"the database {self._where} was made by another version ({error}); "
                "run the newer icebus, or give another database"
            ) from None

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session whose changes are kept all together, or not at all when it raises."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()


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
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    def on_begin(connection: Any) -> None:
        # A reader that wants to write later could be refused without waiting.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)
