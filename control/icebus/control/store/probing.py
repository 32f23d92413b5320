"""Looking for a database that is away, on a thread of its own, so that nobody waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import ClassVar

from sqlalchemy import BigInteger, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlmodel import Field, Session, SQLModel

log = logging.getLogger(__name__)

PAUSE = 0.5
"""Seconds between attempts."""

STOP_TIMEOUT = 6.0
"""Seconds that one attempt may take to end: as long as anybody's lock is waited for."""

_THE_ONE = "probe"


class Probe:
    """Tries to write to the database until that works.

    Args:
        attempt: writes; raises what the driver does, or what SQLAlchemy makes of it.
        found: called, on the thread, when it worked.
        failed: called there when it did not: why may have changed since the database went.
    """

    def __init__(
        self,
        attempt: Callable[[], None],
        found: Callable[[], None],
        failed: Callable[[DBAPIError], None],
    ) -> None:
        self._attempt = attempt
        self._found = found
        self._failed = failed
        self._wanted = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="database-probe", daemon=True)

    def start(self) -> None:
        """Be ready to look for it."""
        self._thread.start()

    def begin(self) -> None:
        """Look for it now. Any thread."""
        self._wanted.set()

    def stop(self) -> None:
        """Look for it no more."""
        self._stop.set()
        self._wanted.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_TIMEOUT)

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            if self._stop.wait(PAUSE):
                return
            try:
                self._attempt()
            except DBAPIError as error:
                self._failed(error)
            except SQLAlchemyError as error:
                log.debug("the database is still away: %s", error)
            except Exception:
                log.exception("looking for the database failed")
            else:
                # Cleared first: it may be away again before the one whom we tell has asked it.
                self._wanted.clear()
                self._found()


class ProbeRow(SQLModel, table=True):
    """What is written to see whether anything can be. There is one."""

    __tablename__: ClassVar[str] = "probes"

    name: str = Field(primary_key=True, max_length=64)
    times: int = Field(default=0, sa_type=BigInteger)


def write(engine: Engine) -> None:
    """Write a row, past whoever else wants the database.

    Raises:
        DBAPIError: it can't be done.
    """
    with Session(engine) as session, session.begin():
        row = session.get(ProbeRow, _THE_ONE) or ProbeRow(name=_THE_ONE)
        row.times += 1
        session.add(row)
