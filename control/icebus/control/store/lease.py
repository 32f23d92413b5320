"""Who leads, of several controls on one database: a row that is renewed before it runs out.

A leader that stands still, or loses the database, is replaced. It may not know that yet, so every
transaction in which it acts as the leader looks at the row first, and finds somebody else's name
there: nothing that a replaced leader decides is ever kept. What it still has to say of earlier
decisions does no harm, because generations only grow.
"""

from __future__ import annotations

import time
from typing import ClassVar

from sqlmodel import Field, Session, SQLModel, select

from icebus.control.store.database import Database

DURATION = 1.75
"""Heartbeats that a lease lasts: whoever takes it over beats before the second one is missed."""

RENEW_AFTER = 0.5
"""Heartbeats after which it is renewed, or looked at by those who would have it. A leader may so
stand still for more than a heartbeat before it is replaced."""

_THE_ONE = "leader"


class LeaseRow(SQLModel, table=True):
    """The lease. There is one."""

    __tablename__: ClassVar[str] = "lease"

    name: str = Field(primary_key=True, max_length=64)
    session: str = Field(max_length=64, description="Of the control that leads; empty for none.")
    expires: float = Field(description="Seconds since 1970, by the database's own clock.")


_LEADER = select(LeaseRow.session).where(LeaseRow.name == _THE_ONE)
"""Asked in every transaction."""


class Lease:
    """One control's side of the lease.

    Args:
        database: migrated.
        session: this run of this control.
        interval: seconds between heartbeats.
    """

    def __init__(self, database: Database, session: str, interval: float) -> None:
        self._database = database
        self._session = session
        self.duration = DURATION * interval
        self._renew_after = RENEW_AFTER * interval
        self._ended = ""
        self._seen: tuple[str, float] = ("", 0.0)
        self._seen_at = 0.0

    def acquire(self) -> tuple[bool, float]:
        """Renew the lease, or take it when it is to be had.

        Returns:
            Whether it is ours, and the seconds until the next look at it.

        Raises:
            DBAPIError: the database does not answer; whoever led does so until somebody takes over.
        """
        with self._database.exclusive() as session:
            clock = self._database.clock(session)
            row = session.get(LeaseRow, _THE_ONE)
            if row is None:
                row = LeaseRow(name=_THE_ONE, session="", expires=clock)
                session.add(row)
            remaining = self._remaining(row, clock)
            if row.session != self._session and remaining > 0:
                return False, min(remaining, self._renew_after)
            row.session, row.expires = self._session, clock + self.duration
            return True, self._renew_after

    def is_held(self, session: Session) -> bool:
        """Whether we lead, as far as the database knows: nobody else does, at any rate."""
        return session.exec(_LEADER).first() == self._session

    def holder_ended(self, session: str) -> None:
        """A control is said to be gone: should it hold the lease, nobody waits for its end."""
        self._ended = session

    def holder_is_alive(self, session: str) -> None:
        """A control is there: if it was said to be gone, it had only lost its broker."""
        if self._ended == session:
            self._ended = ""

    def release(self) -> None:
        """Give the lease up, so that another control may have it at once.

        Raises:
            DBAPIError: the database does not answer; the lease runs out.
        """
        with self._database.exclusive() as session:
            row = session.get(LeaseRow, _THE_ONE)
            if row is not None and row.session == self._session:
                row.session, row.expires = "", self._database.clock(session)

    def _remaining(self, row: LeaseRow, clock: float) -> float:
        """Seconds that whoever holds it has left."""
        at = time.monotonic()
        if self._seen != (row.session, row.expires):
            self._seen, self._seen_at = (row.session, row.expires), at
        if row.session in ("", self._ended):
            return 0.0
        # By our own clock too: the database's may have been set back since.
        return min(row.expires - clock, self._seen_at + self.duration - at)
