"""Transactions that are tried again, and whose messages are sent once they are committed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from icebus.control.operations import queue
from icebus.control.operations.due import absent_clients, expiry
from icebus.control.settings import Settings
from icebus.control.store import outbox
from icebus.control.store.availability import Away
from icebus.control.store.database import BUSY_TIMEOUT, Database
from icebus.control.store.lease import Lease
from icebus.control.store.outbox import Outgoing
from icebus.control.transaction import Transaction
from icebus.control.watch.clients import Clients
from icebus.control.watch.roster import Roster
from icebus.control.watch.workers import Workers
from icebus.schemas.components import Left
from icebus.schemas.errors import IcebusError
from icebus.schemas.message import now
from icebus.schemas.topics import CONTROL_OUTBOX

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""Times a transaction is tried: what another one beat us to is decided anew."""

T = TypeVar("T")


class NotLeading(Exception):
    """Another control leads: what a leader was about to do is left to that."""


class TransactionRunner:
    """Carries out steps, each in a transaction of its own.

    What they have to say is sent when we lead, and otherwise left to the control that does.

    Args:
        database: migrated.
        lease: says whether we lead.
        workers: what is known of the workers.
        clients: what is known of the clients.
        roster: who the broker knows.
        settings: of this control.
        publish: sends a message; must not wait.
        together: sends all that is published in its block at once.
    """

    def __init__(
        self,
        database: Database,
        lease: Lease,
        workers: Workers,
        clients: Clients,
        roster: Roster,
        settings: Settings,
        publish: Callable[[Outgoing], None],
        together: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._together = together
        self._database = database
        self._lease = lease
        self._workers = workers
        self._clients = clients
        self._roster = roster
        self.settings = settings
        self._publish = publish
        self.connected = False
        """Whether we have the broker, so that absent clients are absent and not only unseen."""
        self.due: datetime | None = None
        """When :func:`expiry.do_due` may have something to do next."""
        self.in_doubt = False
        """Whether a connection broke, and with it perhaps the news of a commit: what it changed
        is in the database then, and nobody was told."""

    def run(self, step: Callable[[Transaction], T]) -> T:
        """Carry out a step that any control may take.

        Raises:
            DBAPIError: the database failed every time; nothing was done.
            Exception: whatever the step raised; nothing was done.
        """
        return self._retry(step, as_leader=False)

    def run_as_leader(self, step: Callable[[Transaction], T]) -> T:
        """Carry out a step that is the leader's.

        Raises:
            NotLeading: that is another control; nothing was done.
            DBAPIError: the database failed every time; nothing was done.
            Exception: whatever the step raised; nothing was done.
        """
        return self._retry(step, as_leader=True)

    def _retry(self, step: Callable[[Transaction], T], *, as_leader: bool) -> T:
        attempt = 1
        began = time.monotonic()
        while True:
            try:
                return self._run_once(step, as_leader=as_leader)
            except Away:
                raise
            except DBAPIError as error:
                self.in_doubt |= error.connection_invalidated
                # Whoever has it locked has had it for as long as we wait for anybody.
                waited = time.monotonic() - began >= BUSY_TIMEOUT
                if attempt == ATTEMPTS or waited:
                    raise
                attempt += 1
                log.warning("a transaction failed, trying again: %s", error.orig)

    def _run_once(self, step: Callable[[Transaction], T], *, as_leader: bool) -> T:
        due = self.due
        with self._database.exclusive() as session:
            at = time.monotonic()
            # The wait for the others may have been long.
            self._workers.discount_pause(at)
            leading = self._lease.is_held(session)
            if as_leader and not leading:
                raise NotLeading
            transaction = Transaction(
                session,
                self._workers,
                self._clients,
                self._roster,
                self.settings,
                now(),
                at,
            )
            others = outbox.take(session) if leading else []
            result = step(transaction)
            if others:
                absent_clients.begin_grace(transaction)
            if transaction.scheduling_requested:
                queue.schedule(transaction)
            messages = transaction.conclude()
            if transaction.due_unknown:
                due = expiry.next_due(transaction, connected=self.connected)
            elif transaction.due is not None:
                due = transaction.due if due is None else min(due, transaction.due)
            if not leading:
                outbox.put(session, messages)
        self.due = due
        for act in transaction.afterwards:
            act()
        for level, fact, fields in transaction.log_lines:
            log.log(level, "%s", fact, extra=fields)
        if leading:
            with self._together():
                for message in (*others, *messages):
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
