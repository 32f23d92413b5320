"""A reservation in the client's hands: ready or not, kept alive, ended, failed."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from pydantic import JsonValue

from icebus.broker import Incoming, Subscription
from icebus.broker.bus import wait
from icebus.client import holding, operations
from icebus.client.events import ReceivedEvent, read_event
from icebus.client.keepalive import KeepAlive
from icebus.client.link import Link, read_answer
from icebus.schemas import reservations
from icebus.schemas.calls import RawEvent
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import (
    DeadlineExceeded,
    IcebusError,
    ReservationEnded,
    UnknownDevice,
    UnknownReservation,
    WorkerLost,
)
from icebus.schemas.ids import CONTROL
from icebus.schemas.message import decode
from icebus.schemas.reservations import (
    DeviceFailedEvent,
    Ended,
    EndingSoon,
    EndReason,
    HeldDevice,
    HoldState,
    Initialized,
    ListArgs,
    ReservationsReply,
)
from icebus.schemas.topics import EVENT, RESERVATION

log = logging.getLogger(__name__)


class Reservation:
    """Some devices that a user holds for a while.

    As a context manager it is released at the end of the block if it is attached to this client;
    a detached one lives on.

    Attributes:
        id: under which `attach` finds it again.
        attached: whether it ends with this client.
    """

    def __init__(
        self,
        link: Link,
        document: reservations.Reservation,
        *,
        keep_alive: bool,
        remaining: float | None = None,
    ) -> None:
        self.id = document.id
        self.attached = document.client == link.client
        self._link = link
        self._condition = threading.Condition()
        self._document = document
        self._ended: ReservationEnded | None = None
        self._failed: dict[str, IcebusError] = {}
        whole = (document.until - document.created).total_seconds()
        left = whole if remaining is None else remaining
        self._keeper = KeepAlive(link, document, left, self._apply, lambda: self._end(None))
        self._keep_alive = keep_alive
        self._subscriptions: list[Subscription] = []
        self._following = False

    def start(self) -> None:
        """Follow what happens to it. Called once, by the client that made this object."""
        link = self._link
        self._following = True
        link.workers.listen(self._on_worker_lost)
        link.on_reconnected(self._on_reconnected)
        self._subscriptions = [
            link.bus.subscribe(EVENT, self._on_event, user=link.user, reservation=self.id),
            link.bus.subscribe(RESERVATION, self._on_document, reservation=self.id),
        ]
        self._apply(self._document)
        if self._keep_alive:
            self._keeper.start()

    # --- what it is ---------------------------------------------------------------------------

    @property
    def document(self) -> reservations.Reservation:
        """The reservation as control last told it."""
        with self._condition:
            return self._document

    @property
    def kind(self) -> str:
        """What its devices are reserved for."""
        return self.document.kind

    @property
    def serials(self) -> list[str]:
        """Its devices."""
        return [device.serial for device in self.document.devices]

    @property
    def ended(self) -> ReservationEnded | None:
        """Why it is over; None while it lives."""
        with self._condition:
            return self._ended

    @property
    def closed(self) -> bool:
        """Whether this object has let go of it."""
        return not self._following

    def problem(self, serial: str) -> IcebusError | None:
        """Why a device of it can't be called now; None if it can."""
        with self._condition:
            if self._ended is not None:
                return self._ended
            if serial in self._failed:
                return self._failed[serial]
        return self._link.workers.problem(self.device(serial).worker)

    def serves(self, serial: str) -> bool:
        """Whether a device of it can be called now, as far as control has told."""
        return self.device(serial).state is HoldState.SERVING and self.problem(serial) is None

    def device(self, serial: str) -> HeldDevice:
        """One of its devices.

        Raises:
            UnknownDevice: it holds no such device.
        """
        for device in self.document.devices:
            if device.serial == serial:
                return device
        raise UnknownDevice(
            f"reservation {self.id} holds no device {serial!r}; it holds {', '.join(self.serials)}",
            serial=serial,
        )

    def wait_ready(self, deadline: Deadline) -> None:
        """Wait until every device serves.

        Raises:
            DeviceFailed: one can't be prepared.
            ReservationEnded: it is over.
            DeadlineExceeded: preparing takes longer than allowed.
        """
        for subscription in self._subscriptions:
            # From here on no event passes us by.
            wait(subscription.acknowledged, deadline, "the broker")
        with self._condition:
            while True:
                if self._ended is not None:
                    raise self._ended
                for failed in self._failed.values():
                    raise failed
                waiting = holding.waiting(self._document)
                if not waiting:
                    return
                if not self._condition.wait(deadline.remaining):
                    raise DeadlineExceeded(
                        f"reservation {self.id}: {', '.join(waiting)} not ready in time; "
                        "`icebus devices` shows what they do",
                        serials=waiting,
                    )

    # --- what one does with it ----------------------------------------------------------------

    def extend(self, duration: float, timeout: float = operations.TIMEOUT) -> None:
        """Move its end by ``duration`` seconds.

        Raises:
            InvalidRequest: no such duration.
            ReservationEnded: too late.
        """
        self._apply(operations.extend(self._link, self.id, duration, timeout))

    def release(self, timeout: float = operations.TIMEOUT) -> None:
        """End it; its devices become free. Releasing what has ended already is no error."""
        try:
            ended = operations.end(self._link, self.id, timeout)
        except (ReservationEnded, UnknownReservation):
            self._end(None)
        else:
            self._end(ended.reason or EndReason.RELEASED)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of it without ending it."""
        self._following = False
        self._keeper.stop()
        self._link.workers.unlisten(self._on_worker_lost)
        self._link.off_reconnected(self._on_reconnected)
        for subscription in self._subscriptions:
            subscription.cancel()
        self._subscriptions = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self.attached:
            self.close()
            return
        try:
            self.release()
        except IcebusError as failed:
            # It is attached: control ends it when this client is gone.
            log.warning("could not release reservation %s: %s", self.id, failed)

    # --- what happens to it: on the dispatcher ------------------------------------------------

    def _on_document(self, incoming: Incoming) -> None:
        if incoming.payload:
            self._apply(decode(reservations.Reservation, incoming.payload))
        else:
            self._end(None)

    def _apply(self, document: reservations.Reservation) -> None:
        for worker in sorted({device.worker for device in document.devices}):
            self._link.workers.watch(worker)
        with self._condition:
            before, self._document = self._document, document
            self._keeper.moved((document.until - before.until).total_seconds())
            known = self._failed
            self._failed = {s: known.get(s, e) for s, e in holding.failures(document).items()}
            lost = {s: e for s, e in self._failed.items() if s not in known}
            lost.update(holding.moved(before, document))
            back = [s for s in holding.returned(before, document) if s not in self._failed]
            self._condition.notify_all()
        for serial in holding.serving(document):
            ready = Initialized(reservation=self.id, serial=serial)
            self._link.hooks.tell("initialized", ready, ("initialized", self.id, serial))
        for serial, error in lost.items():
            self.on_lost([serial], error)
        if document.state in holding.OVER:
            self._end(document.reason)
        elif back:
            self.on_back(back)

    def _end(self, reason: EndReason | None) -> None:
        if reason is not None:
            ended = Ended(reservation=self.id, reason=reason)
            self._link.hooks.tell("reservation_ended", ended, ("ended", self.id))
        with self._condition:
            if self._ended is not None:
                return
            self._ended = error = holding.ending(self.id, reason)
            self._condition.notify_all()
        self.on_lost(self.serials, error)

    def _on_reconnected(self) -> None:
        # The word that it ended may have passed while the broker or we were away.
        args = ListArgs(user=self._link.user)
        answer = self._link.send("list", args, Deadline.after(operations.TIMEOUT))
        answer.add_done_callback(self._on_listed)

    def _on_listed(self, answer: Future[JsonValue]) -> None:
        try:
            listed = read_answer(answer.result(), ReservationsReply).reservations
        except IcebusError as error:
            log.warning("could not ask for reservation %s: %s", self.id, error)
            return
        if not any(each.id == self.id for each in listed):
            self._end(None)

    def _on_worker_lost(self, worker: str, error: WorkerLost) -> None:
        serials = [d.serial for d in self.document.devices if d.worker == worker]
        if serials:
            self.on_lost(serials, error)

    def _on_event(self, incoming: Incoming) -> None:
        serial, name = incoming.ids["serial"], incoming.ids["event"]
        sender = incoming.ids["sender"]
        event = decode(RawEvent, incoming.payload)
        key = (name, self.id, sender, serial, event.sequence, event.at)
        if sender != CONTROL:
            if any(d.serial == serial and d.worker == sender for d in self.document.devices):
                self.on_kind_event(serial, name, event, key)
        elif name == "initialized":
            ready = read_event(Initialized, event)
            self._link.hooks.tell(name, ready, (name, self.id, ready.serial))
            self.on_back([ready.serial])
        elif name == "reservation_ending_soon":
            self._link.hooks.tell(name, read_event(EndingSoon, event), key)
        elif name == "reservation_ended":
            self._end(read_event(Ended, event).reason)
        elif name == "device_failed":
            self._on_device_failed(read_event(DeviceFailedEvent, event), key)

    def _on_device_failed(self, failed: DeviceFailedEvent, key: tuple[object, ...]) -> None:
        self._link.hooks.tell("device_failed", failed, key)
        error = holding.failure(failed)
        with self._condition:
            self._failed.setdefault(failed.serial, error)
            self._condition.notify_all()
        self.on_lost([failed.serial], error)

    # --- for kinds to override ----------------------------------------------------------------

    def on_kind_event(
        self, serial: str, name: str, event: RawEvent, key: tuple[object, ...]
    ) -> None:
        """A worker has sent an event of the kind; runs on the dispatcher."""
        received = ReceivedEvent(
            name=name,
            reservation=self.id,
            serial=serial,
            sender=self.device(serial).worker,
            data=event.data,
            at=event.at,
        )
        self._link.hooks.tell(name, received, key)

    def on_lost(self, serials: list[str], error: IcebusError) -> None:
        """Devices can't be used any more, at least for what they were doing."""

    def on_back(self, serials: list[str]) -> None:
        """Devices that could not be used serve again, or for the first time."""
