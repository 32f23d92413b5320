"""A reservation in the client's hands: ready or not, kept alive, ended, failed."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future

from icebus.bus import Incoming, Subscription
from icebus.client._connection import operations
from icebus.client._connection.connection import Connection
from icebus.client._connection.hook_runner import ReceivedEvent, event_key
from icebus.client._reservation import document as documents
from icebus.client._reservation.extension import AutomaticExtension
from icebus.client._reservation.reservation_state import Change, ReservationState
from icebus.schemas.calls import RawEvent, read_event
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError, ReservationEnded, UnknownDevice, WorkerLost
from icebus.schemas.ids import CONTROL
from icebus.schemas.message import decode, now
from icebus.schemas.operations import reservations
from icebus.schemas.operations.offers import OfferEnded, Transferred
from icebus.schemas.operations.reservations import (
    DeviceFailedEvent,
    DeviceReplaced,
    Ended,
    EndingSoon,
    EndReason,
    HeldDevice,
    Initialized,
    ListArgs,
    ReservationsReply,
)
from icebus.schemas.topics import EVENT, RESERVATION

log = logging.getLogger(__name__)


class FollowedReservation:
    """A reservation that is kept up with what happens to it.

    Args:
        connection: to the farm.
        document: the reservation as control told it.
        keep_alive: whether to extend it while this client lives.
        remaining: seconds that are left of it, where known.

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
        self._state = ReservationState(document)
        self._extension = AutomaticExtension(
            connection, self.id, self._update, lambda: self._end(None)
        )
        self._keep_alive = keep_alive
        self._remaining = remaining
        self._subscriptions: list[Subscription] = []
        self._following = False

    def start(self) -> None:
        """Follow what happens to it. Called once, by the client that made this object."""
        connection = self._connection
        self._following = True
        connection.workers.listen(self._on_worker_lost)
        connection.add_reconnect_listener(self._on_reconnected)
        connection.add_refusal_listener(self._on_refused)
        document = self.document
        if self._keep_alive and not documents.is_queued(document):
            whole = (document.until - document.created).total_seconds()
            self._extension.start(whole, whole if self._remaining is None else self._remaining)
        log.info("reservation %s is %s, of %s", self.id, document.state, document.user)
        # Before what is newer can come: it must not be overwritten with this.
        self._update(document)
        self._subscriptions = [
            connection.bus.subscribe(
                EVENT, self._on_event, user=connection.user, reservation=self.id
            ),
            connection.bus.subscribe(RESERVATION, self._on_document, reservation=self.id),
        ]

    @property
    def document(self) -> reservations.Reservation:
        """The reservation as control last told it."""
        with self._condition:
            return self._state.document

    @property
    def serials(self) -> list[str]:
        """Its devices; none while it is queued."""
        with self._condition:
            return self._state.serials

    def device(self, serial: str) -> HeldDevice:
        """One of its devices.

        Raises:
            UnknownDevice: it holds no such device.
        """
        document = self.document
        for device in document.devices:
            if device.serial == serial:
                return device
        [named] = documents.meant_devices(document, [serial])
        if named != serial:
            return self.device(named)
        raise UnknownDevice(
            f"reservation {self.id} holds no device {serial!r}; it holds {', '.join(self.serials)}",
            serial=serial,
        )

    @property
    def closed(self) -> bool:
        """Whether this object has let go of it."""
        return not self._following

    @property
    def extended(self) -> bool:
        """Whether its end is moved for as long as the client lives."""
        return self._keep_alive and self._following

    def __dir__(self) -> list[str]:
        # Without what only the client calls: Tab is for those who use it.
        names = super().__dir__()
        return [name for name in names if not name.startswith("on_") and name != "start"]

    def close(self) -> None:
        """Let go of it without ending it."""
        self._following = False
        if self._connection.inherited:
            return
        self._extension.stop()
        self._connection.workers.unlisten(self._on_worker_lost)
        self._connection.remove_reconnect_listener(self._on_reconnected)
        self._connection.remove_refusal_listener(self._on_refused)
        for subscription in self._subscriptions:
            subscription.cancel()
        self._subscriptions = []

    # --- what happens to it: on the dispatcher ------------------------------------------------

    def _on_document(self, incoming: Incoming) -> None:
        if incoming.payload:
            self._update(decode(reservations.Reservation, incoming.payload))
        else:
            self._end(None)

    def _update(self, document: reservations.Reservation) -> None:
        for worker in sorted({device.worker for device in documents.held(document)}):
            self._connection.workers.watch(worker)
        with self._condition:
            change = self._state.update(document)
            if change is None:
                return
            if change.got_devices:
                self._start_extending(document)
            else:
                # Control moves both moments when the clock of its machine is set.
                self._extension.end_moved(change.end_moved)
            if change.before.client == self._connection.client != document.client:
                self._extension.stop()  # it is for another client to keep now
            self._condition.notify_all()
        self._log_change(change.before)
        self._announce(document, change)
        lost = {s: self._worker_loss(s) or error for s, error in change.failed.items()}
        for serial, error in {**lost, **change.moved}.items():
            self.on_devices_lost([serial], error)
        if change.ended is not None:
            self._tell_ended(change.ended)
        elif change.newly_serving:
            self.on_devices_serve(list(change.newly_serving))

    def _announce(self, document: reservations.Reservation, change: Change) -> None:
        """Have hooks called for what is new."""
        if (place := change.queue_place) is not None:
            self._connection.hooks.run("queued", place, ("queued", self.id, object()))
        for serial in documents.serving(document):
            ready = Initialized(reservation=self.id, serial=serial)
            self._connection.hooks.run("initialized", ready, ("initialized", self.id, serial))
        if document.state in documents.OVER and document.user == self._connection.user:
            self._run_ended_hook(document.reason)

    def _log_change(self, before: reservations.Reservation) -> None:
        after = self.document
        told = (after.state, [(each.serial, each.state) for each in after.devices])
        if told != (before.state, [(each.serial, each.state) for each in before.devices]):
            devices = ", ".join(f"{each.serial} {each.state}" for each in after.devices)
            log.info("reservation %s is %s: %s", self.id, after.state, devices or "no devices yet")

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
        self._run_ended_hook(reason)
        error = documents.ended_error(self.id, reason)
        with self._condition:
            if not self._state.end(error):
                return
            self._condition.notify_all()
        self._tell_ended(error)

    def _run_ended_hook(self, reason: EndReason | None) -> None:
        if reason is not None:
            ended = Ended(reservation=self.id, reason=reason)
            self._connection.hooks.run("reservation_ended", ended, ("ended", self.id))

    def _tell_ended(self, error: ReservationEnded) -> None:
        log.info("%s", error)
        self.on_devices_lost([device.serial for device in self.document.devices], error)

    def _on_refused(self) -> None:
        with self._condition:
            self._condition.notify_all()

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
        elif self._state.owners.get(serial := incoming.ids["serial"]) == sender:
            self.on_kind_event(name, serial, sender, incoming.payload)

    def _on_control_event(self, name: str, serial: str, payload: bytes) -> None:
        key = event_key(name, self.id, serial, CONTROL, decode(RawEvent, payload))
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
            case "offer_ended":
                self._connection.hooks.run(name, read_event(OfferEnded, payload), key)
            case "transferred":
                self._connection.hooks.run(name, read_event(Transferred, payload), key)

    def _on_device_failed(self, failed: DeviceFailedEvent, key: tuple[object, ...]) -> None:
        self._connection.hooks.run("device_failed", failed, key)
        error = documents.error_of_event(failed)
        with self._condition:
            self._state.fail(failed.serial, error)
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
        self._connection.hooks.run(name, received, event_key(name, self.id, serial, worker, event))

    def on_devices_lost(self, serials: list[str], error: IcebusError) -> None:
        """Devices can't be used any more, at least for what they were doing."""

    def on_devices_serve(self, serials: list[str]) -> None:
        """Devices that could not be used serve again, or for the first time."""

    def on_device_replaced(self, serial: str, by: str) -> None:
        """A device has failed, and another that is being prepared takes its place."""
