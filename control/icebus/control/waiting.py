"""Waiting at the start for a database that is not there yet, for as long as it takes.

An administrator who starts a machine, or restarts PostgreSQL, has not to mind the order; and a
control that gives up would be started again only to find the same. What it waits for shows in its
state, its log and :attr:`Availability.trouble`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError

from icebus.control.store.database import Database
from icebus.control.store.database_failures import is_away
from icebus.schemas.errors import DatabaseUnavailable

AGAIN = 1.0
"""Seconds between attempts."""


def is_ready(database: Database, load: Callable[[], None]) -> bool:
    """Bring the database's tables to this version and read them, unless it is away.

    Args:
        database: which one.
        load: takes over what it knows.

    Raises:
        InvalidRequest: it can't be used, and waiting would not help.
    """
    try:
        database.migrate()
        load()
    except DatabaseUnavailable:
        return False
    except DBAPIError as error:
        if not is_away(error):
            raise
        database.availability.failed(error)
        return False
    database.availability.works()
    return True


def wait_until_ready(
    database: Database, load: Callable[[], None], given_up: threading.Event
) -> bool:
    """Wait until the database is there, has its tables and was read.

    Args:
        database: which one.
        load: takes over what it knows.
        given_up: set, by any thread, when nobody waits any more.

    Returns:
        Whether it is there; False when given up.

    Raises:
        InvalidRequest: it can't be used, and waiting would not help.
    """
    while not is_ready(database, load):
        if given_up.wait(AGAIN):
            return False
    return True
