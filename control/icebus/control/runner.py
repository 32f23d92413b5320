"""Transactions that are tried again, and whose messages are sent once they are committed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from icebus.control.operations import expiry as agenda
from icebus.control.operations import queue as waiting
from icebus.control.operations import reminders as rounds
from icebus.control.settings import Settings
from icebus.control.store import outbox
from icebus.control.store.database import BUSY_TIMEOUT, Database
from icebus.control.store.lease import Lease
from icebus.control.store.transaction import Outgoing, Work
from icebus.control.watch.clients import Clients
from icebus.control.watch.workers import Farm
from icebus.schemas.components import Left
from icebus.schemas.errors import IcebusError
from icebus.schemas.message import now
from icebus.schemas.topics import CONTROL_OUTBOX

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""Times a transaction is tried: what another one beat us to is decided anew."""

T = TypeVar("T")


class Deposed(Exception):
    """Somebody else leads: what a leader was about to do is theirs to do."""


class Transactions:
    """Carries out steps, each in a transaction of its own.

    What they have to say is sent when we lead, and otherwise left to the one that does.

    Args:
        database: migrated.
        lease: says whether we lead.
        farm: what is known of the workers.
        clients: what is known of the clients.
        settings: of this control.
        publish: sends a message; must not wait.
    """

    def __init__(
        self,
        database: Database,
        lease: Lease,
        farm: Farm,
        clients: Clients,
        settings: Settings,
        publish: Callable[[Outgoing], None],
    ) -> None:
        self._database = database
        self._lease = lease
        self._farm = farm
        self._clients = clients
        self._settings = settings
        self._publish = publish
        self.online = False
        """Whether we are connected, so that absent clients are absent and not only unseen."""
        self.due: datetime | None = None
        """When :func:`agenda.sweep` has something to do next."""
        self.in_doubt = False
        """Whether a connection broke, and with it perhaps the news of a commit: what it changed
        is in the database then, and nobody was told."""

    def run(self, step: Callable[[Work], T]) -> T:
        """Carry out a step that any control may take.

        Raises:
            DBAPIError: the database failed every time; nothing was done.
            Exception: whatever the step raised; nothing was done.
        """
        return self._persist(step, fenced=False)

    def lead(self, step: Callable[[Work], T]) -> T:
        """Carry out a step that is the leader's.

        Raises:
            Deposed: that is somebody else; nothing was done.
            DBAPIError: the database failed every time; nothing was done.
            Exception: whatever the step raised; nothing was done.
        """
        return self._persist(step, fenced=True)

    def _persist(self, step: Callable[[Work], T], *, fenced: bool) -> T:
        attempt = 1
        began = time.monotonic()
        while True:
            try:
                return self._carry_out(step, fenced=fenced)
            except DBAPIError as error:
                self.in_doubt |= error.connection_invalidated
                # Whoever has it locked has had it for as long as we wait for anybody.
                waited = time.monotonic() - began >= BUSY_TIMEOUT
                if attempt == ATTEMPTS or waited:
                    raise
                attempt += 1
                log.warning("a transaction failed, trying again: %s", error.orig)

    def _carry_out(self, step: Callable[[Work], T], *, fenced: bool) -> T:
        due = self.due
        with self._database.exclusive() as session:
            at = time.monotonic()
            # The wait for the others may have been long.
            self._farm.tick(at)
            leading = self._lease.is_ours(session)
            if fenced and not leading:
                raise Deposed
            work = Work(session, self._farm, self._clients, self._settings, now(), at)
            left = outbox.take(session) if leading else []
            result = step(work)
            if left:
                rounds.count_absence(work)
            if work.stirred:
                waiting.serve(work)
            messages = work.conclude()
            if work.rescheduled:
                due = agenda.next_due(work, connected=self.online)
            if not leading:
                outbox.leave(session, messages)
        self.due = due
        for fact, fields in work.facts:
            log.info("%s", fact, extra=fields)
        if leading:
            for message in (*left, *messages):
                self.send(message)
        elif messages:
            self.send(Outgoing(CONTROL_OUTBOX(), Left(messages=len(messages))))
        return result

    def send(self, message: Outgoing) -> None:
        """Publish a message; what can't be sent keeps nothing else from being sent."""
        try:
            self._publish(message)
        except IcebusError:
            log.exception("could not publish on %s", message.topic)
