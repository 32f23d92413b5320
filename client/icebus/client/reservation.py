"""A reservation in the client's hands: ready or not, kept alive, ended, failed."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from types import TracebackType
from typing import Self, TypeVar

from pydantic import JsonValue

from icebus.broker import Incoming, Subscription
from icebus.client.events import ReceivedEvent
from icebus.client.link import Link, make, read_answer
from icebus.schemas import reservations
from icebus.schemas.calls import RawEvent
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import (
    DeadlineExceeded,
    DeviceFailed,
    ErrorInfo,
    IcebusError,
    ReservationEnded,
    UnknownDevice,
    UnknownReservation,
    WorkerLost,
)
from icebus.schemas.ids import CONTROL
from icebus.schemas.message import Message, decode
from icebus.schemas.reservations import (
    DeviceFailedEvent,
    EndArgs,
    Ended,
    EndingSoon,
    EndReason,
    ExtendArgs,
    ExtendReply,
    HeldDevice,
    HoldState,
    Initialized,
    ReservationReply,
    ReservationState,
)
from icebus.schemas.topics import EVENT, RESERVATION

log = logging.getLogger(__name__)

OPERATION_TIMEOUT = 15.0
"""Seconds for control to answer: it does within milliseconds unless it is being restarted."""

KEEP_ALIVE_RETRY = 5.0
"""Seconds until an extension that failed is tried again."""

_OVER = frozenset({ReservationState.ENDING, ReservationState.ENDED})
_UNUSABLE = frozenset({HoldState.FAILED, HoldState.RELEASED})


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
        self._keep_alive = keep_alive
        self._closed = False
        self._duration = (document.until - document.created).total_seconds()
        left = self._duration if remaining is None else remaining
        self._ends_at = time.monotonic() + left
        self._subscriptions: list[Subscription] = []

    def start(self) -> None:
        """Follow what happens to it. Called once, by the client that made this object."""
        link = self._link
        link.workers.listen(self._on_worker_lost)
        for worker in sorted({device.worker for device in self._document.devices}):
            link.workers.watch(worker)
        self._subscriptions = [
            link.bus.subscribe(EVENT, self._on_event, user=link.user, reservation=self.id),
            link.bus.subscribe(RESERVATION, self._on_document, reservation=self.id),
        ]
        self._apply(self._document)
        self._schedule()

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

    def problem(self, serial: str) -> IcebusError | None:
        """Why a device of it can't be called now; None if it can."""
        with self._condition:
            if self._ended is not None:
                return self._ended
            if serial in self._failed:
                return self._failed[serial]
        return self._link.workers.problem(self.device(serial).worker)

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
        with self._condition:
            while True:
                if self._ended is not None:
                    raise self._ended
                for failed in self._failed.values():
                    raise failed
                waiting = [
                    device.serial
                    for device in self._document.devices
                    if device.state is not HoldState.SERVING
                ]
                if not waiting:
                    return
                if not self._condition.wait(deadline.remaining):
                    raise DeadlineExceeded(
                        f"reservation {self.id}: {', '.join(waiting)} not ready in time; "
                        "`icebus devices` shows what they do",
                        serials=waiting,
                    )

    # --- what one does with it ----------------------------------------------------------------

    def extend(self, duration: float, timeout: float = OPERATION_TIMEOUT) -> None:
        """Move its end by ``duration`` seconds.

        Raises:
            InvalidRequest: no such duration.
            ReservationEnded: too late.
        """
        args = make(ExtendArgs, "extend", reservation=self.id, duration=duration)
        reply = self._link.ask("extend", args, ExtendReply, Deadline.after(timeout))
        self._apply(reply.reservation)

    def release(self, timeout: float = OPERATION_TIMEOUT) -> None:
        """End it; its devices become free. Releasing what has ended already is no error."""
        try:
            reply = self._link.ask(
                "end", EndArgs(reservation=self.id), ReservationReply, Deadline.after(timeout)
            )
        except (ReservationEnded, UnknownReservation):
            self._end(None)
        else:
            self._end(reply.reservation.reason or EndReason.RELEASED)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of it without ending it."""
        with self._condition:
            self._closed = True
        self._link.workers.unlisten(self._on_worker_lost)
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

    # --- keep-alive: on the dispatcher ------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._keep_alive or self._closed or self._ended is not None:
            return
        wait = max(0.0, self._ends_at - time.monotonic() - self._duration / 2)
        self._link.bus.call_later(wait, self._prolong)

    def _prolong(self) -> None:
        if self._closed or self._ended is not None:
            return
        if self._ends_at - time.monotonic() > self._duration / 2 + 0.01:
            self._schedule()
            return
        args = ExtendArgs(reservation=self.id, duration=self._duration / 2)
        future = self._link.send("extend", args, Deadline.after(OPERATION_TIMEOUT))
        future.add_done_callback(self._on_prolonged)

    def _on_prolonged(self, future: Future[JsonValue]) -> None:
        try:
            self._apply(read_answer(future.result(), ExtendReply).reservation)
        except (ReservationEnded, UnknownReservation) as error:
            log.warning("reservation %s is over: %s", self.id, error)
            self._end(None)
        except IcebusError as error:
            log.warning("could not extend reservation %s: %s", self.id, error)
            if not self._closed:
                retry = min(KEEP_ALIVE_RETRY, self._duration / 8)
                self._link.bus.call_later(retry, self._prolong)
        else:
            self._schedule()

    # --- what happens to it: on the dispatcher ------------------------------------------------

    def _on_document(self, incoming: Incoming) -> None:
        if incoming.payload:
            self._apply(decode(reservations.Reservation, incoming.payload))
        else:
            self._end(None)

    def _apply(self, document: reservations.Reservation) -> None:
        newly_failed: dict[str, IcebusError] = {}
        with self._condition:
            self._ends_at += (document.until - self._document.until).total_seconds()
            self._document = document
            for device in document.devices:
                if device.state in _UNUSABLE and document.state not in _OVER:
                    if device.serial not in self._failed:
                        newly_failed[device.serial] = _failure(device)
                else:
                    self._failed.pop(device.serial, None)
            self._failed.update(newly_failed)
            self._condition.notify_all()
        for device in document.devices:
            if device.state is HoldState.SERVING:
                ready = Initialized(reservation=self.id, serial=device.serial)
                self._link.hooks.tell("initialized", ready, ("initialized", self.id, device.serial))
        for serial, error in newly_failed.items():
            self.on_lost([serial], error)
        if document.state in _OVER:
            self._end(document.reason)

    def _end(self, reason: EndReason | None) -> None:
        if reason is not None:
            ended = Ended(reservation=self.id, reason=reason)
            self._link.hooks.tell("reservation_ended", ended, ("ended", self.id))
        with self._condition:
            if self._ended is not None:
                return
            why = reason.value if reason is not None else "over"
            self._ended = error = ReservationEnded(
                f"reservation {self.id} has ended ({why.replace('_', ' ')}); reserve again",
                reservation=self.id,
                reason=why,
            )
            self._condition.notify_all()
        self.on_lost(self.serials, error)

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
            ready = _model(Initialized, event)
            self._link.hooks.tell(name, ready, (name, self.id, ready.serial))
        elif name == "reservation_ending_soon":
            self._link.hooks.tell(name, _model(EndingSoon, event), key)
        elif name == "reservation_ended":
            self._end(_model(Ended, event).reason)
        elif name == "device_failed":
            self._on_device_failed(_model(DeviceFailedEvent, event), key)

    def _on_device_failed(self, failed: DeviceFailedEvent, key: tuple[object, ...]) -> None:
        self._link.hooks.tell("device_failed", failed, key)
        error = IcebusError.from_info(
            ErrorInfo(
                code=failed.code,
                message=f"device {failed.serial} failed: {failed.reason}",
                details={"serial": failed.serial, "reason": failed.reason},
            )
        )
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


def _failure(device: HeldDevice) -> DeviceFailed:
    reason = device.reason or "no reason was told"
    return DeviceFailed(
        f"device {device.serial} failed: {reason}; `icebus devices` shows it",
        serial=device.serial,
        reason=reason,
    )


M = TypeVar("M", bound=Message)


def _model(model: type[M], event: RawEvent) -> M:
    return model.model_validate(event.data)
