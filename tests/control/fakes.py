"""A worker without boards and a user's client, at the edges of control."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from pydantic import BaseModel

from bench.simulated import SimulatedWorker, copied_fields
from icebus.bus import BrokerAddress, Bus, Incoming, Requester, Will
from icebus.schemas import components
from icebus.schemas.calls import RawEvent, Request
from icebus.schemas.components import ClientState, Heartbeat, KindInfo, WorkerKinds
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import Desired, DeviceState
from icebus.schemas.errors import DatabaseUnavailable, UnknownKind
from icebus.schemas.ids import CONTROL, new_id
from icebus.schemas.message import decode
from icebus.schemas.operations.reservations import (
    AvailableReply,
    DevicesReply,
    ExtendReply,
    Reservation,
    ReservationReply,
    ReservationsReply,
)
from icebus.schemas.topics import CLIENT_STATE, CONTROL_HEARTBEAT, EVENT, OPERATION, RESERVATION

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

TIMEOUT = 20.0
"""Seconds a test waits for what should come within milliseconds."""

STATE_INTERVAL = 20.0
"""Seconds of which the broker keeps a client's state for three: longer than any test takes."""

KINDS = WorkerKinds(
    kinds={
        "pulsecount": KindInfo(
            firmware="pulse_count",
            args={
                "type": "object",
                "properties": {"window": {"type": "number", "maximum": 10}},
                "additionalProperties": False,
            },
        )
    }
)


def until(condition: Callable[[], T | None], changed: threading.Condition, what: str) -> T:
    """The first true value of ``condition``, looked at whenever something ``changed``."""
    deadline = Deadline.after(TIMEOUT)
    with changed:
        while True:
            value = condition()
            if value:
                return value
            if not changed.wait(timeout=deadline.remaining):
                pytest.fail(f"waited {TIMEOUT} s in vain for {what}")


class FakeWorker(SimulatedWorker):
    """A simulated worker that prepares its devices, can be killed, and is watched by a test."""

    def __init__(self, address: BrokerAddress, serials: list[str]) -> None:
        super().__init__(address, serials, KINDS)
        self.killed = False

    def stop(self) -> None:
        if not self.killed:
            super().stop()

    def kill(self) -> None:
        """Go without a word; the broker speaks the will."""
        self.killed = True
        reason = ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message")
        self.bus._client.disconnect(reasoncode=reason)
        self.bus.close(Deadline.after(0.1))

    def carry_out(self, desired: Desired) -> None:
        if desired.quarantined is None and desired.reservation is not None:
            self.report(desired.serial, DeviceState.PREPARING, **copied_fields(desired))
        super().carry_out(desired)

    def wait_desired(self, serial: str, matching: Callable[[Desired], bool]) -> Desired:
        def look() -> Desired | None:
            desired = self.desired.get(serial)
            return desired if desired is not None and matching(desired) else None

        return until(look, self.changed, f"what is desired of {serial}")


class FakeClient:
    """A user's client: asks control and hears what is said to the user."""

    def __init__(self, address: BrokerAddress) -> None:
        self.user = address.user
        self.id = new_id("client-")
        self.session = new_id()
        self.changed = threading.Condition()
        self.events: list[tuple[dict[str, str], RawEvent]] = []
        self.documents: dict[str, list[Reservation | None]] = {}
        self.heartbeats: queue.SimpleQueue[Heartbeat] = queue.SimpleQueue()
        lost = ClientState(state=components.Presence.LOST, session=self.session)
        self.topic = CLIENT_STATE(user=self.user, client=self.id)
        self.bus = Bus(address, self.user, will=Will(self.topic, lost, STATE_INTERVAL))
        self.requester = Requester(self.bus, self.user, self.id)
        self.bus.subscribe(EVENT, self._on_event, user=self.user)
        self.bus.subscribe(RESERVATION, self._on_document)
        self.bus.subscribe(CONTROL_HEARTBEAT, self._on_heartbeat)

    def start(self) -> FakeClient:
        self.bus.connect(Deadline.after(TIMEOUT))
        self.say(components.Presence.ONLINE)
        return self

    def say(self, presence: components.Presence) -> None:
        state = ClientState(state=presence, session=self.session)
        self.bus.publish(self.topic, state, interval=STATE_INTERVAL)

    def stop(self) -> None:
        self.requester.close()
        self.bus.close(Deadline.after(5))

    def ask(self, operation: str, answer: type[M], name: str | None = None, **args: Any) -> M:
        request = Request(id=name or new_id(), args=args)
        topic = OPERATION(user=self.user, operation=operation)
        return self.requester.send(topic, request, CONTROL, answer, Deadline.after(TIMEOUT)).wait()

    def reserve(self, **args: Any) -> Reservation:
        return self.ask("reserve", ReservationReply, **{"kind": "pulsecount", **args}).reservation

    def reserve_when_back(self, **args: Any) -> Reservation:
        """Ask until control's database is there: it is looked for twice a second."""
        return self._when_back(lambda: self.reserve(**args))

    def _when_back(self, ask: Callable[[], M]) -> M:
        deadline = Deadline.after(TIMEOUT)
        pause = threading.Event()
        while True:
            try:
                return ask()
            except DatabaseUnavailable as error:
                deadline.check(f"the database ({error})")
                pause.wait(0.05)

    def extend_when_back(self, reservation: str, duration: float) -> ExtendReply:
        """Likewise."""
        return self._when_back(lambda: self.extend(reservation, duration))

    def extend(self, reservation: str, duration: float) -> ExtendReply:
        return self.ask("extend", ExtendReply, reservation=reservation, duration=duration)

    def end(self, reservation: str) -> Reservation:
        return self.ask("end", ReservationReply, reservation=reservation).reservation

    def list(self, **args: Any) -> list[Reservation]:
        return self.ask("list", ReservationsReply, **args).reservations

    def devices(self) -> DevicesReply:
        return self.ask("devices", DevicesReply)

    def available(self) -> AvailableReply:
        return self.ask("available", AvailableReply, kind="pulsecount")

    def wait_available(self, count: int) -> None:
        """Ask until so many devices are to be had: their workers have just started."""
        deadline = Deadline.after(TIMEOUT)
        pause = threading.Event()
        while self._available() != count:
            deadline.check(f"{count} devices to be available")
            pause.wait(0.02)

    def _available(self) -> int:
        try:
            return self.available().available
        except UnknownKind:
            return 0

    def wait_event(self, name: str, number: int = 1, **ids: str) -> RawEvent:
        """The ``number``-th event of that name."""

        def look() -> RawEvent | None:
            found = [
                event
                for levels, event in self.events
                if levels["event"] == name and ids.items() <= levels.items()
            ]
            return found[number - 1] if len(found) >= number else None

        return until(look, self.changed, f"event {name} number {number}")

    def count(self, name: str) -> int:
        with self.changed:
            return sum(levels["event"] == name for levels, _ in self.events)

    def wait_document(
        self, reservation: str, matching: Callable[[Reservation], bool]
    ) -> Reservation:
        def look() -> Reservation | None:
            for document in reversed(self.documents.get(reservation, [])):
                if document is not None and matching(document):
                    return document
            return None

        return until(look, self.changed, f"a document of {reservation}")

    def wait_cleared(self, reservation: str) -> None:
        def look() -> bool:
            documents = self.documents.get(reservation)
            return bool(documents) and documents is not None and documents[-1] is None

        until(look, self.changed, f"the document of {reservation} to be cleared")

    def _on_event(self, incoming: Incoming) -> None:
        with self.changed:
            self.events.append((incoming.ids, decode(RawEvent, incoming.payload)))
            self.changed.notify_all()

    def _on_document(self, incoming: Incoming) -> None:
        document = decode(Reservation, incoming.payload) if incoming.payload else None
        with self.changed:
            self.documents.setdefault(incoming.ids["reservation"], []).append(document)
            self.changed.notify_all()

    def _on_heartbeat(self, incoming: Incoming) -> None:
        if incoming.payload:
            self.heartbeats.put(decode(Heartbeat, incoming.payload))
