"""One transaction of control: its session, its moment, and what is sent once it is committed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel
from sqlalchemy import insert
from sqlmodel import Session, col, select

from icebus.control.decide.reconciler import desired
from icebus.control.settings import Settings
from icebus.control.store.tables import DeviceRow, HistoryRow, HoldRow, ReservationRow
from icebus.control.watch.clients import Clients
from icebus.control.watch.workers import Farm
from icebus.schemas.calls import Event
from icebus.schemas.devices import WorkerDesired
from icebus.schemas.history import HistoryEvent
from icebus.schemas.ids import ALL_DEVICES, CONTROL
from icebus.schemas.message import Message
from icebus.schemas.reservations import HeldDevice, Queue, Reservation, ReservationState
from icebus.schemas.topics import DESIRED, DEVICE, EVENT, EVENT_EXPIRY, RESERVATION, WORKER_DESIRED

CLEAR = b""
"""What clears a retained topic."""


@dataclass(frozen=True)
class Outgoing:
    """A message to publish."""

    topic: str
    message: BaseModel | bytes
    retain: bool = False
    expiry: float | None = None

    @property
    def payload(self) -> bytes:
        """The message as it crosses the network."""
        message = self.message
        return message if isinstance(message, bytes) else message.model_dump_json().encode()


class Work:
    """A transaction at work.

    What it changes is sent only after the database has it, so that nobody acts on what a crash
    would take back.

    Args:
        session: of the transaction.
        farm: what is known of the workers.
        clients: what is known of the clients.
        settings: of this control.
        now: the moment all of it happens, on the wall clock.
        at: the same on the monotonic clock.
    """

    def __init__(
        self,
        session: Session,
        farm: Farm,
        clients: Clients,
        settings: Settings,
        now: datetime,
        at: float,
    ) -> None:
        self.session = session
        self.farm = farm
        self.clients = clients
        self.settings = settings
        self.now = now
        self.at = at
        self._history: list[dict[str, object]] = []
        self._desired: list[Outgoing] = []
        self._events: list[Outgoing] = []
        self._changed: dict[str, ReservationRow] = {}
        self._documents: dict[str, Reservation] = {}
        self.facts: list[tuple[str, dict[str, str]]] = []
        """What happened, in words and fields, for the log."""
        self.rescheduled = False
        """Whether something falls due at another time than before."""
        self.stirred = False
        """Whether something changed that those in the queue may wait for."""

    def stir(self) -> None:
        """Have the queue looked at before the transaction ends."""
        self.stirred = True

    def want(self, device: DeviceRow, reservation: ReservationRow | None) -> None:
        """Publish what is desired of a device."""
        topic = DESIRED(worker=device.worker, serial=device.serial)
        self._desired.append(Outgoing(topic, desired(device, reservation), retain=True))

    def note(self, fact: str, **fields: str) -> None:
        """Log a fact once it is one."""
        self.facts.append((fact, fields))

    def unwant(self, worker: str, serial: str) -> None:
        """Clear what a worker was told about a device it has no more."""
        self._desired.append(Outgoing(DESIRED(worker=worker, serial=serial), CLEAR, retain=True))

    def drain(self, worker: str, reason: str | None) -> None:
        """Publish whether a worker is to take new reservations."""
        topic = WORKER_DESIRED(worker=worker)
        self._desired.append(Outgoing(topic, WorkerDesired(draining=reason), retain=True))

    def clear_report(self, worker: str, serial: str) -> None:
        """Clear what a worker that is gone last said of a device."""
        self._desired.append(Outgoing(DEVICE(worker=worker, serial=serial), CLEAR, retain=True))

    def record(
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
                "worker": worker,
                "reason": reason,
            }
        )

    def change(self, reservation: ReservationRow) -> None:
        """Publish the reservation's document when all is done."""
        reservation.revision += 1
        self._changed[reservation.id] = reservation
        self._documents.pop(reservation.id, None)
        self.rescheduled = True

    def forget(self, reservation: str) -> None:
        """Clear the document of a reservation that is over."""
        self._events.append(Outgoing(RESERVATION(reservation=reservation), CLEAR, retain=True))

    def tell(
        self, reservation: ReservationRow, event: str, data: Message, serial: str = ALL_DEVICES
    ) -> None:
        """Send an event to the holder of a reservation."""
        topic = EVENT(
            user=reservation.user,
            reservation=reservation.id,
            sender=CONTROL,
            serial=serial,
            event=event,
        )
        message = Event[Message](sequence=reservation.sequence, at=self.now, data=data)
        reservation.sequence += 1
        self._events.append(Outgoing(topic, message, expiry=EVENT_EXPIRY))

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
            known = (
                self.documents([reservation])[0] if holds is None else _document(reservation, holds)
            )
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
        return [_document(row, holds[row.id]) for row in rows]

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
            documents.append(Outgoing(topic, document, retain=True))
            if document.state is ReservationState.ENDED:
                # Live subscribers have seen the end with its reason; nobody else needs to.
                documents.append(Outgoing(topic, CLEAR, retain=True))
        return self._desired + documents + self._events


def _document(row: ReservationRow, holds: Iterable[HoldRow]) -> Reservation:
    return Reservation(
        id=row.id,
        revision=row.revision,
        user=row.user,
        kind=row.kind,
        state=row.state,
        devices=[
            HeldDevice(serial=each.serial, worker=each.worker, state=each.state, reason=each.reason)
            # Not by the database: how it sorts depends on its locale.
            for each in sorted(holds, key=lambda hold: hold.serial)
        ],
        created=row.created,
        until=row.until,
        client=row.client,
        reason=row.reason,
        priority=row.priority,
        replace=row.replace,
        queue=None
        if row.position is None
        else Queue(position=row.position, reason=row.waits_for or "", estimate=row.estimate),
    )
