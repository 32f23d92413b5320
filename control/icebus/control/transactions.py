"""Transactions that are tried again, and whose messages are sent once they are committed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from icebus.control import agenda, waiting
from icebus.control.clients import Clients
from icebus.control.database import Database
from icebus.control.farm import Farm
from icebus.control.settings import Settings
from icebus.control.work import Outgoing, Work
from icebus.schemas.errors import IcebusError
from icebus.schemas.message import now

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""Times a transaction is tried: what another one beat us to is decided anew."""

T = TypeVar("T")


class Transactions:
    """Carries out steps, each in a transaction of its own.

    Args:
        database: migrated.
        farm: what is known of the workers.
        clients: what is known of the clients.
        settings: of this control.
        publish: sends a message; must not wait.
    """

    def __init__(
        self,
        database: Database,
        farm: Farm,
        clients: Clients,
        settings: Settings,
        publish: Callable[[Outgoing], None],
    ) -> None:
        self._database = database
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
        """Carry a step out, then send what it has to say.

        Raises:
            DBAPIError: the database failed every time; nothing was done.
            Exception: whatever the step raised; nothing was done.
        """
        attempt = 1
        while True:
            due = self.due
            try:
                with self._database.transaction() as session:
                    at = time.monotonic()
                    work = Work(session, self._farm, self._clients, self._settings, now(), at)
                    result = step(work)
                    if work.stirred:
                        waiting.serve(work)
                    outbox = work.outbox()
                    if work.rescheduled:
                        due = agenda.next_due(work, connected=self.online)
            except DBAPIError as error:
                self.in_doubt |= error.connection_invalidated
                if attempt == ATTEMPTS:
                    raise
                attempt += 1
                log.warning("a transaction failed, trying again: %s", error.orig)
            else:
                break
        self.due = due
        for fact, fields in work.facts:
            log.info("%s", fact, extra=fields)
        for message in outbox:
            self.send(message)
        return result

    def send(self, message: Outgoing) -> None:
        """Publish a message; what can't be sent keeps nothing else from being sent."""
        try:
            self._publish(message)
        except IcebusError:
            log.exception("could not publish on %s", message.topic)
