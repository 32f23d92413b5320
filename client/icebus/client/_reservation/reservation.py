"""A reservation in the client's hands: ready or not, kept alive, ended, failed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import timedelta
from types import TracebackType
from typing import Self

from icebus.bus import Incoming, Subscription, wait_for
from icebus.client._connection import operations
from icebus.client._connection.connection import Connection
from icebus.client._connection.hook_runner import ReceivedEvent
from icebus.client._reservation import document as holding
from icebus.client._reservation.events import read_event
from icebus.client._reservation.extension import AutomaticExtension
from icebus.client._reservation.queue_place import Waiting, still_queued_error
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
from icebus.schemas.message import decode, now
from icebus.schemas.reservations import (
    DeviceFailedEvent,
    DeviceReplaced,
    Ended,
    EndingSoon,
    EndReason,
    HeldDevice,
    HoldState,
    Initialized,
    ListArgs,
    ReservationsReply,
    Transferred,
)
from icebus.schemas.topics import EVENT, RESERVATION

log = logging.getLogger(__name__)


class Reservation:
    """Some devices that a user holds for a while.

    As a context manager it is released at the end of the block if it is attached to this client;
    a detached one lives on.

    Attributes:
        id: under which `attach` finds it again.
    """

    def __init__(
        self,
        connection: Connection,
        document: reservations.Reservation,
        *,
        keep_alive: bool,
        remaining: float | None = None,
    ) -> None:
        self.id = document.id
        self._connection = connection
        self._condition = threading.Condition()
        self._document = document
        self._owners = _owners(document)
        self._ended: ReservationEnded | None = None
        self._failed: dict[str, IcebusError] = {}
        self._extension = AutomaticExtension(
            connection, self.id, self._update, lambda: self._end(None)
        )
        self._keep_alive = keep_alive
        self._remaining = remaining
        self._waiting: Waiting | None = None
        self._subscriptions: list[Subscription] = []
        self._following = False

    def start(self) -> None:
        """Follow what happens to it. Called once, by the client that made this object."""
        connection = self._connection
        self._following = True
        connection.workers.listen(self._on_worker_lost)
        connection.add_reconnect_listener(self._on_reconnected)
        document = self.document
        if self._keep_alive and not holding.is_queued(document):
            whole = (document.until - document.created).total_seconds()
            self._extension.start(whole, whole if self._remaining is None else self._remaining)
        # Before what is newer can come: it must not be overwritten with this.
        self._update(document)
        self._subscriptions = [
            connection.bus.subscribe(
                EVENT, self._on_event, user=connection.user, reservation=self.id
            ),
            connection.bus.subscribe(RESERVATION, self._on_document, reservation=self.id),
        ]

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
    def attached(self) -> bool:
        """Whether it ends with this client."""
        return self.document.client == self._connection.client

    @property
    def serials(self) -> list[str]:
        """Its devices; none while it is queued."""
        with self._condition:
            return self._serials()

    def _serials(self) -> list[str]:
        return [device.serial for device in holding.held(self._document)]

    @property
    def ended(self) -> ReservationEnded | None:
        """Why it is over; None while it lives."""
        with self._condition:
            return self._ended

    @property
    def waiting(self) -> Waiting | None:
        """Where it stood in the queue when that was last told; None if it never waited."""
        with self._condition:
            return self._waiting

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
        return self._connection.workers.problem(self.device(serial).worker)

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

    def wait_for_devices(self, deadline: Deadline) -> None:
        """Wait until it has devices.

        Raises:
            ReservationEnded: it is over, such as because it waited for as long as it was to.
            ReservationQueued: it waits still.
        """
        self._connection.check_open()
        if holding.is_queued(self.document):
            self._wait_subscribed(deadline)
            # What happened before we listened is only known to control.
            self._ask_whether_it_lives()
        with self._condition:
            while holding.is_queued(self._document) and self._ended is None:
                if not self._condition.wait(deadline.remaining):
                    raise still_queued_error(self._document)
            if self._ended is not None:
                raise self._ended

    def wait_ready(self, deadline: Deadline) -> None:
        """Wait until every device serves.

        Raises:
            DeviceFailed: one can't be prepared, and none takes its place.
            ReservationEnded: it is over.
            ReservationQueued: it has no devices yet.
            DeadlineExceeded: preparing takes longer than allowed.
        """
        self._connection.check_open()
        self._wait_subscribed(deadline)
        self.wait_for_devices(deadline)
        with self._condition:
            while True:
                if self._ended is not None:
                    raise self._ended
                waiting = holding.preparing(self._document)
                failed = [self._failed[s] for s in self._serials() if s in self._failed]
                if failed and not self._document.replace:
                    raise failed[0]
                if not waiting:
                    return
                if not self._condition.wait(deadline.remaining):
                    if failed:
                        raise failed[0]
                    raise DeadlineExceeded(
                        f"reservation {self.id}: {', '.join(waiting)} not ready in time; "
                        "`icebus devices` shows what they do",
                        serials=waiting,
                    )

    def _wait_subscribed(self, deadline: Deadline) -> None:
        """From then on no event passes us by."""
        for subscription in self._subscriptions:
            wait_for(subscription.acknowledged, deadline, "the broker")

    # --- what one does with it ----------------------------------------------------------------

    def extend(self, duration: float, timeout: float = operations.TIMEOUT) -> None:
        """Move its end by ``duration`` seconds.

        Raises:
            InvalidRequest: no such duration.
            ReservationEnded: too late.
        """
        self._update(operations.extend(self._connection, self.id, duration, timeout))

    def release(
        self, serials: Sequence[str] | None = None, *, timeout: float = operations.TIMEOUT
    ) -> None:
        """Let go of all devices, which ends it, or only of some.

        Releasing what has ended already is no error.

        Args:
            serials: the devices to let go of; None for all.
            timeout: seconds for control to answer.

        Raises:
            DeviceNotHeld: it does not hold one of the devices.
            ClientClosed: its client is closed, and it goes on.
        """
        if serials is not None:
            self._update(operations.end(self._connection, self.id, serials, timeout=timeout))
            return
        if self.ended is not None or self.document.user != self._connection.user:
            self.close()  # it is over, or was given away
            return
        try:
            ended = operations.end(self._connection, self.id, timeout=timeout)
        except (ReservationEnded, UnknownReservation):
            self._end(None)
        else:
            self._end(ended.reason or EndReason.RELEASED)
        finally:
            self.close()

    def transfer(self, user: str, timeout: float = operations.TIMEOUT) -> None:
        """Give it to another user; for this client it is over then.

        What is being measured goes on, and its outcomes are the other user's.

        Raises:
            LimitExceeded: the other user has as much as they may have.
            ReservationEnded: it is over.
        """
        self._update(operations.transfer(self._connection, self.id, user, timeout))
        self.close()

    def close(self) -> None:
        """Let go of it without ending it."""
        self._following = False
        self._extension.stop()
        self._connection.workers.unlisten(self._on_worker_lost)
        self._connection.remove_reconnect_listener(self._on_reconnected)
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
            self._update(decode(reservations.Reservation, incoming.payload))
        else:
            self._end(None)

    def _update(self, document: reservations.Reservation) -> None:
        for worker in sorted({device.worker for device in holding.held(document)}):
            self._connection.workers.watch(worker)
        with self._condition:
            if document.revision < self._document.revision:
                return  # an answer that was overtaken by what happened since
            before, self._document = self._document, document
            self._owners = _owners(document)
            if holding.is_queued(before) and not holding.is_queued(document):
                self._start_extending(document)
            else:
                # Control moves both moments when the clock of its machine is set.
                self._extension.end_moved((_length(document) - _length(before)).total_seconds())
            if before.client == self._connection.client != document.client:
                self._extension.stop()  # it is for another client to keep now
            waiting, told = Waiting.of(document), self._waiting
            self._waiting = waiting or told
            known = self._failed
            self._failed = {s: known.get(s, e) for s, e in holding.device_errors(document).items()}
            lost = {s: self._worker_loss(s) or e for s, e in self._failed.items() if s not in known}
            lost.update(holding.moved_errors(before, document))
            back = [s for s in holding.newly_serving(before, document) if s not in self._failed]
            self._condition.notify_all()
        if waiting is not None and waiting != told:
            self._connection.hooks.run("queued", waiting, ("queued", self.id, object()))
        for serial in holding.serving(document):
            ready = Initialized(reservation=self.id, serial=serial)
            self._connection.hooks.run("initialized", ready, ("initialized", self.id, serial))
        for serial, error in lost.items():
            self.on_devices_lost([serial], error)
        if document.user != self._connection.user:
            self._become_ended(holding.given_away_error(document))
        elif document.state in holding.OVER:
            self._end(document.reason)
        elif back:
            self.on_devices_serve(back)

    def _worker_loss(self, serial: str) -> WorkerLost | None:
        """The loss of its worker, if that is why a device failed: it may be back in a moment."""
        return self._connection.workers.recent_loss(self.device(serial).worker)

    def _start_extending(self, document: reservations.Reservation) -> None:
        """It has waited and has devices now; its time begins."""
        if self._keep_alive:
            told = (document.until - now()).total_seconds()
            remaining = told if self._remaining is None else self._remaining
            self._extension.start(remaining, remaining)

    def _end(self, reason: EndReason | None) -> None:
        if reason is not None:
            ended = Ended(reservation=self.id, reason=reason)
            self._connection.hooks.run("reservation_ended", ended, ("ended", self.id))
        self._become_ended(holding.ended_error(self.id, reason))

    def _become_ended(self, error: ReservationEnded) -> None:
        with self._condition:
            if self._ended is not None:
                return
            self._ended = error
            self._condition.notify_all()
        self.on_devices_lost([device.serial for device in self.document.devices], error)

    def _on_reconnected(self) -> None:
        # The word that it ended may have passed while the broker or we were away.
        self._ask_whether_it_lives()

    def _ask_whether_it_lives(self) -> None:
        args = ListArgs(user=self._connection.user)
        deadline = Deadline.after(operations.TIMEOUT)
        answer = operations.send(self._connection, "list", args, ReservationsReply, deadline)
        answer.add_done_callback(self._on_listed)

    def _on_listed(self, answer: Future[ReservationsReply]) -> None:
        try:
            listed = answer.result().reservations
        except IcebusError as error:
            log.warning("could not ask for reservation %s: %s", self.id, error)
            return
        if not any(each.id == self.id for each in listed):
            self._end(None)

    def _on_worker_lost(self, worker: str, error: WorkerLost) -> None:
        serials = [d.serial for d in self.document.devices if d.worker == worker]
        if serials:
            self.on_devices_lost(serials, error)

    def _on_event(self, incoming: Incoming) -> None:
        name, sender = incoming.ids["event"], incoming.ids["sender"]
        if sender == CONTROL:
            self._on_control_event(name, incoming.ids["serial"], incoming.payload)
        elif self._owners.get(serial := incoming.ids["serial"]) == sender:
            self.on_kind_event(name, serial, sender, incoming.payload)

    def _on_control_event(self, name: str, serial: str, payload: bytes) -> None:
        key = self._key(name, serial, CONTROL, decode(RawEvent, payload))
        match name:
            case "initialized":
                ready = read_event(Initialized, payload)
                self._connection.hooks.run(name, ready, (name, self.id, ready.serial))
                self.on_devices_serve([ready.serial])
            case "reservation_ending_soon":
                self._connection.hooks.run(name, read_event(EndingSoon, payload), key)
            case "reservation_ended":
                self._end(read_event(Ended, payload).reason)
            case "device_failed":
                self._on_device_failed(read_event(DeviceFailedEvent, payload), key)
            case "device_replaced":
                replaced = read_event(DeviceReplaced, payload)
                self._connection.hooks.run(name, replaced, key)
                self.on_device_replaced(replaced.serial, replaced.by)
            case "transferred":
                self._connection.hooks.run(name, read_event(Transferred, payload), key)

    def _key(self, name: str, serial: str, sender: str, event: RawEvent) -> tuple[object, ...]:
        """What tells an event that comes again from the next one."""
        return (name, self.id, sender, serial, event.sequence, event.at)

    def _on_device_failed(self, failed: DeviceFailedEvent, key: tuple[object, ...]) -> None:
        self._connection.hooks.run("device_failed", failed, key)
        error = holding.error_of_event(failed)
        with self._condition:
            self._failed.setdefault(failed.serial, error)
            self._condition.notify_all()
        self.on_devices_lost([failed.serial], error)

    # --- for kinds to override ----------------------------------------------------------------

    def on_kind_event(self, name: str, serial: str, worker: str, payload: bytes) -> None:
        """A worker has sent an event of the kind; runs on the dispatcher."""
        event = decode(RawEvent, payload)
        received = ReceivedEvent(
            name=name,
            reservation=self.id,
            serial=serial,
            sender=worker,
            data=event.data,
            at=event.at,
        )
        self._connection.hooks.run(name, received, self._key(name, serial, worker, event))

    def on_devices_lost(self, serials: list[str], error: IcebusError) -> None:
        """Devices can't be used any more, at least for what they were doing."""

    def on_devices_serve(self, serials: list[str]) -> None:
        """Devices that could not be used serve again, or for the first time."""

    def on_device_replaced(self, serial: str, by: str) -> None:
        """A device has failed, and another that is being prepared takes its place."""


def _length(document: reservations.Reservation) -> timedelta:
    return document.until - document.created


def _owners(document: reservations.Reservation) -> dict[str, str]:
    """The worker of each device, also of those that it let go of: their last outcomes count."""
    return {device.serial: device.worker for device in document.devices}
