"""A file of SQLite that is deleted or replaced while it is in use.

Whoever has it open would go on writing to a file without a name, which is lost with the process.
So every transaction looks first whether the file still is the one it has open. If its name is gone,
or its log's, all of it is written back, from the connection that still has it; if another file has
the name, such as a backup that was restored, that one is used.
"""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
from pathlib import Path

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError

from icebus.schemas.errors import InvalidRequest
from icebus.schemas.programs.private_files import open_private

log = logging.getLogger(__name__)

_OPENED = "icebus_opened"
"""What a connection has open, in its info."""

Identity = tuple[int, int] | None
"""Device and number of a file; None when there is none."""


class Replaced(sqlite3.OperationalError):
    """The file was deleted or replaced; the next connection has the one that stands there now."""

    sqlite_errorcode = sqlite3.SQLITE_READONLY | (4 << 8)
    """SQLITE_READONLY_DBMOVED, which SQLite itself says of some of these cases."""


class SqliteFile:
    """The files of one database.

    Args:
        path: of the database itself.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._index = path.with_name(f"{path.name}-shm")
        self._was_there = False

    def watch(self, engine: Engine) -> None:
        """Look at the beginning of each transaction whether it is the file that is open."""
        event.listen(engine, "do_connect", self._on_connect)
        event.listen(engine, "begin", self._on_begin)

    def _on_connect(self, *_: object) -> None:
        # SQLite would make an empty one, for which all that is open would be given up.
        if self._was_there and not self._path.exists():
            raise Replaced(f"{self._path} was deleted while it was in use")

    def _on_begin(self, connection: Connection) -> None:
        self._was_there = True
        found = (_identity(self._path), _identity(self._log))
        opened = connection.info.setdefault(_OPENED, found)
        if found == opened:
            return
        raw = connection.connection.dbapi_connection
        same = found[0] == opened[0]
        if isinstance(raw, sqlite3.Connection) and (found[0] is None or same):
            try:
                self._write_back(raw.serialize(), replace=same)
            except (OSError, InvalidRequest) as error:
                # This connection keeps what nobody else has.
                raise _failed(f"{self._path} was deleted and can't be made: {error}") from error
        # It goes back to nobody: what it has open is not what there is.
        connection.invalidate()
        raise _failed(f"{self._path} was deleted or replaced while it was in use")

    def _write_back(self, content: bytes, *, replace: bool) -> None:
        """Give the file its name again, unless another has it by then."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}")
        with os.fdopen(open_private(new), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            # What is left of the old log would be taken for the new file's.
            for left in (self._log, self._index):
                left.unlink(missing_ok=True)
            if replace:
                new.replace(self._path)
            else:
                os.link(new, self._path)
        except FileExistsError:
            return
        finally:
            new.unlink(missing_ok=True)
        log.warning("%s was deleted while it was in use, and is written back whole", self._path)


def _failed(words: str) -> OperationalError:
    # As SQLAlchemy would have made it of what a statement raises.
    return OperationalError("BEGIN", {}, Replaced(words))


def _identity(path: Path) -> Identity:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
