"""What control says of its database while that can't be used: since when, why, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from icebus.schemas.message import Message, Timestamp


class DatabaseCause(StrEnum):
    """Why a database can't be used, as far as control can tell from its side."""

    UNREACHABLE = "unreachable"
    """It takes no connection: it is down, has too many, or refuses control's name or password."""
    SILENT = "silent"
    """It took the connection and does not answer."""
    SLOW = "slow"
    """It answers, and so late that all that is asked of control waits for it."""
    LOCKED = "locked"
    FULL = "full"
    DISK = "disk"
    """It could not be read or written, and said no more about it."""
    READ_ONLY = "read_only"
    MISSING = "missing"
    """Its file, or a table, was deleted."""
    DAMAGED = "damaged"
    FAILED = "failed"
    """Something else: control's log has the database's own words."""


_LOG = "the log of control has its words"

_TOLD: Mapping[DatabaseCause, tuple[str, str]] = {
    DatabaseCause.UNREACHABLE: (
        "can't be connected to",
        f"start it, or let control in: {_LOG}",
    ),
    DatabaseCause.SILENT: (
        "does not answer",
        "look at its machine and at what it waits for; restart it if need be",
    ),
    DatabaseCause.SLOW: (
        "answers slowly",
        "look at the load of its machine and its disk",
    ),
    DatabaseCause.LOCKED: (
        "is locked by another program",
        "end what locks it, such as a backup or a shell that stands in a transaction",
    ),
    DatabaseCause.FULL: ("has no room left", "make room on its disk"),
    DatabaseCause.DISK: (
        "meets errors of its disk",
        "look at its disk: room, quotas, limits of a file's size, health",
    ),
    DatabaseCause.READ_ONLY: (
        "can't be written",
        "let control write its file and folder, or point it at a server that is no standby",
    ),
    DatabaseCause.MISSING: (
        "was deleted while it was in use",
        "put its file or its tables back, from the backup if need be",
    ),
    DatabaseCause.DAMAGED: ("is damaged", "stop control, restore the backup, and start it"),
    DatabaseCause.FAILED: ("does not work", _LOG),
}


class DatabaseTrouble(Message):
    """The database of a control can't be used, or hardly."""

    since: Timestamp
    cause: DatabaseCause

    @property
    def words(self) -> str:
        """What is the matter, to follow "the database"."""
        return _TOLD[self.cause][0]

    @property
    def remedy(self) -> str:
        """What whoever keeps the farm can do."""
        return _TOLD[self.cause][1]
