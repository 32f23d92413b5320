"""One transaction of control: its session, its moment, and what is sent once it is committed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime

from sqlalchemy import insert
from sqlmodel import Session, col, select

from icebus.control.decide.limits import Limit
from icebus.control.settings import Settings
from icebus.control.store.outbox import CLEAR, Outgoing
from icebus.control.store.tables import NOBODY, DeviceRow, HistoryRow, HoldRow, ReservationRow
from icebus.control.watch.clients import Clients
from icebus.control.watch.roster import Roster
from icebus.control.watch.workers import Workers
from icebus.schemas.calls import Event
from icebus.schemas.devices import DeviceClaim, WorkerDesired
from icebus.schemas.ids import ALL_DEVICES, CONTROL
from icebus.schemas.liveness import Health
from icebus.schemas.message import Message
from icebus.schemas.operations.history import HistoryEntry, HistoryEvent, HistoryReply
from icebus.schemas.operations.reservations import Reservation, ReservationState
from icebus.schemas.topics import (
    CLAIM,
    CONTROL_HISTORY,
    DESIRED,
    DEVICE,
    EVENT,
    RESERVATION,
    WORKER_DESIRED,
    WORKER_HEARTBEAT,
    WORKER_KINDS,
    WORKER_STATE,
)


class Transaction:
    """What an operation reads from, writes to and speaks through.

    What it changes is sent only after the database has it, so that nobody acts on what a crash
    would take back.

    Args:
        session: of the database.
        workers: what is known of the workers.
        clients: what is known of the clients.
        roster: who the broker knows.
        settings: of this control.
        now: the moment all of it happens, on the wall clock.
        monotonic: the same on the monotonic clock.
    """

    def __init__(
        self,
        session: Session,
        workers: Workers,
        clients: Clients,
        roster: Roster,
        settings: Settings,
        now: datetime,
        monotonic: float,
    ) -> None:
        self.session = session
        self.workers = workers
        self.clients = clients
        self.roster = roster
        self.settings = settings
        self.now = now
        self.monotonic = monotonic
        self._history: list[dict[str, object]] = []
        self._desired: list[Outgoing] = []
        self._events: list[Outgoing] = []
        self._changed: dict[str, ReservationRow] = {}
        self._documents: dict[str, Reservation] = {}
        self.log_lines: list[tuple[int, str, dict[str, str]]] = []
        """What happened: how grave it is, in words, and in fields."""
        self.afterwards: list[Callable[[], None]] = []
        """What is to be done in memory once the database has all of this."""
        self.due: datetime | None = None
        """When the first thing falls due that this transaction adds."""
        self.due_unknown = False
        """Whether the database is to be asked what falls due next."""
        self.scheduling_requested = False
        """Whether something changed that those in the queue may wait for."""

    def health(self, worker: str) -> Health:
        """Whether that worker can be relied on now."""
        return self.workers.health(worker, self.monotonic)

    def limit(self, user: str) -> Limit:
        """What a user may have, by himself and by his groups."""
        return self.settings.limits.of(user, self.roster.groups(user))

    def request_scheduling(self) -> None:
        """Have the queue looked at before the transaction ends."""
        self.scheduling_requested = True

    def falls_due(self, moment: datetime) -> None:
        """Have the leader look at what is due at that moment; it may do so in vain."""
        self.due = moment if self.due is None else min(self.due, moment)

    def log(self, fact: str, *, level: int = logging.INFO, **fields: str) -> None:
        """Log a fact once it is one."""
        self.log_lines.append((level, fact, fields))

    def record_history(
        self,
        event: HistoryEvent,
        reservation: ReservationRow | None = None,
        *,
        actor: str = CONTROL,
        serial: str | None = None,
        worker: str | None = None,
        reason: str = "",
    ) -> None:
        """Write down what happens, in the transaction that does it."""
        self._history.append(
            {
                "at": self.now,
                "event": event,
                "actor": actor,
                "reservation": None if reservation is None else reservation.id,
                "user": None if reservation is None else reservation.user,
                "serial": serial,
                "worker": worker or None,
                "reason": reason,
            }
        )

    # --- what is published at the end -----------------------------------------------------------

    def publish_desired(self, device: DeviceRow, reservation: ReservationRow | None) -> None:
        """Publish what is desired of a device, given the live reservation that holds it."""
        if device.worker == NOBODY:
            return
        topic = DESIRED(worker=device.worker, serial=device.serial)
        self._desired.append(Outgoing(topic, device.desired(reservation)))

    def clear_desired(self, worker: str, serial: str) -> None:
        """Clear what a worker was told about a device it has no more."""
        if worker == NOBODY:
            return
        self._desired.append(Outgoing(DESIRED(worker=worker, serial=serial), CLEAR))

    def clear_report(self, worker: str, serial: str) -> None:
        """Clear what a worker that is gone last said of a device."""
        if worker == NOBODY:
            return
        self._desired.append(Outgoing(DEVICE(worker=worker, serial=serial), CLEAR))

    def clear_worker(self, worker: str) -> None:
        """Clear what a worker that is gone last said of itself, and last what it was told.

        From its state others know that it is retired; from the other a worker that is there after
        all, perhaps behind a bridge, knows that it is to say all anew.
        """
        topics = (WORKER_KINDS, WORKER_HEARTBEAT, WORKER_STATE, WORKER_DESIRED)
        self._desired += [Outgoing(topic(worker=worker), CLEAR) for topic in topics]

    def publish_claim(self, serial: str, claim: DeviceClaim | None) -> None:
        """Publish the alarm that several workers claim a device; None when they do no more."""
        self._desired.append(Outgoing(CLAIM(serial=serial), CLEAR if claim is None else claim))

    def publish_draining(self, worker: str, reason: str | None) -> None:
        """Publish why a worker is to get no new reservations; None when it is to get them."""
        topic = WORKER_DESIRED(worker=worker)
        self._desired.append(Outgoing(topic, WorkerDesired(draining=reason)))

    def publish_history(self, entries: list[HistoryEntry]) -> None:
        """Publish the last of the history, for those who may not ask for it."""
        self._events.append(Outgoing(CONTROL_HISTORY(), HistoryReply(entries=entries)))

    def publish_document(self, reservation: ReservationRow) -> None:
        """Publish the reservation's document, which has changed, when all is done."""
        reservation.revision += 1
        self._changed[reservation.id] = reservation
        self._documents.pop(reservation.id, None)

    def clear_document(self, reservation: str) -> None:
        """Clear the document of a reservation that is over."""
        self._events.append(Outgoing(RESERVATION(reservation=reservation), CLEAR))

    def send_event(
        self,
        reservation: ReservationRow,
        event: str,
        data: Message,
        serial: str = ALL_DEVICES,
        *,
        user: str | None = None,
    ) -> None:
        """Send an event about a reservation to its holder, or to somebody else whom it concerns."""
        topic = EVENT(
            user=user or reservation.user,
            reservation=reservation.id,
            sender=CONTROL,
            serial=serial,
            event=event,
        )
        message = Event[Message](sequence=reservation.sequence, at=self.now, data=data)
        reservation.sequence += 1
        self._events.append(Outgoing(topic, message))

    # --- documents ------------------------------------------------------------------------------

    def document(
        self, reservation: ReservationRow, holds: Iterable[HoldRow] | None = None
    ) -> Reservation:
        """The reservation as it crosses the bus, with all that this transaction did to it.

        Args:
            reservation: which one.
            holds: all of its holds, where they are at hand.
        """
        known = self._documents.get(reservation.id)
        if known is None:
            read = holds is None
            known = self.documents([reservation])[0] if read else reservation.document(holds or ())
            self._documents[reservation.id] = known
        return known

    def documents(self, reservations: Iterable[ReservationRow]) -> list[Reservation]:
        """Reservations as they cross the bus, in the given order."""
        rows = list(reservations)
        if not rows:
            return []
        self.session.flush()
        query = select(HoldRow).where(col(HoldRow.reservation).in_([row.id for row in rows]))
        holds: dict[str, list[HoldRow]] = {row.id: [] for row in rows}
        for hold in self.session.exec(query):
            holds[hold.reservation].append(hold)
        return [row.document(holds[row.id]) for row in rows]

    def conclude(self) -> list[Outgoing]:
        """Write the history, the last thing a transaction does.

        Returns:
            All that is to be sent: what devices should do first, for that takes longest.
        """
        if self._history:
            self.session.execute(insert(HistoryRow), self._history)
        documents: list[Outgoing] = []
        unread = [row for name, row in self._changed.items() if name not in self._documents]
        for document in (*self._documents.values(), *self.documents(unread)):
            if document.id not in self._changed:
                continue
            topic = RESERVATION(reservation=document.id)
            documents.append(Outgoing(topic, document))
            if document.state is ReservationState.ENDED:
                # Live subscribers have seen the end with its reason; nobody else needs to.
                documents.append(Outgoing(topic, CLEAR))
        return self._desired + documents + self._events
