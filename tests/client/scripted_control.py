"""A control that gives any devices to anybody."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

from tests.client.observed import SOON, Observed

from icebus.broker.embedded import EmbeddedBroker
from icebus.bus import Bus, Exchange, Incoming, Responder
from icebus.schemas.calls import Event, Request
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError, UnknownReservation
from icebus.schemas.ids import CONTROL, new_id
from icebus.schemas.message import Message, now
from icebus.schemas.operations.offers import Offer
from icebus.schemas.operations.reservations import (
    DeviceReplaced,
    DevicesReply,
    EndReason,
    ExtendReply,
    HeldDevice,
    HoldState,
    Queue,
    Reservation,
    ReservationReply,
    ReservationsReply,
    ReservationState,
    WithdrawReply,
)
from icebus.schemas.topics import CLIENT_STATE, EVENT, OPERATION, RESERVATION, shared_requests


def device(serial: str, state: HoldState) -> HeldDevice:
    """A device of w1 if its number is odd, else of w2."""
    return HeldDevice(serial=serial, worker="w1" if int(serial[1:]) % 2 else "w2", state=state)


class ScriptedControl:
    """A control that gives any devices to anybody, and tells of what a test wants told.

    Attributes:
        state: that devices are in when reserved.
        refuse: what to answer the next requests with, in turn.
        refuse_only: the operation to refuse.
        queue: where the next reservation that waits stands, instead of getting devices.
        before: called with each operation before it is answered.
        on_extended: called when a reservation was extended, before the answer.
        clients: presences seen.
    """

    def __init__(self, broker: EmbeddedBroker) -> None:
        self.state = HoldState.SERVING
        self.refuse: list[IcebusError] = []
        self.refuse_only = "reserve"
        self.queue: Queue | None = None
        self.before: Callable[[str], object] = lambda _operation: None
        self.on_extended: Callable[[str], object] = lambda _reservation: None
        self.requests = Observed()
        self.clients = Observed()
        self.reservations: dict[str, Reservation] = {}
        self.bus = Bus(broker.address("main"), name="main")
        self._made: dict[str, str] = {}
        self._sequence = 0
        self._responder = Responder(self.bus, CONTROL)
        subscriptions = [
            self.bus.subscribe(OPERATION, self._on_request, shared=shared_requests("secret")),
            self.bus.subscribe(
                CLIENT_STATE, lambda incoming: self.clients.add((incoming.ids, incoming.payload))
            ),
        ]
        self.bus.connect(Deadline.after(SOON))
        for subscription in subscriptions:
            subscription.acknowledged.result(SOON)

    def close(self) -> None:
        self.bus.close(Deadline.after(1))

    def _on_request(self, incoming: Incoming) -> None:
        exchange = self._responder.accept(incoming, Request)
        if exchange is None:
            return
        operation, args = incoming.ids["operation"], exchange.request.args
        self.before(operation)
        self._answer(incoming, exchange, operation, args)
        self.requests.add((operation, args))

    def _answer(
        self, incoming: Incoming, exchange: Exchange[Request], operation: str, args: dict[str, Any]
    ) -> None:
        if self.refuse and self.refuse_only in ("", operation):
            exchange.fail(self.refuse.pop(0))
        elif operation == "reserve":
            made = self.make(incoming.ids["user"], args)
            self._made[exchange.request.id] = made.id
            exchange.succeed(ReservationReply(reservation=made))
            self.publish(made)
        elif operation == "devices":
            exchange.succeed(DevicesReply(devices=[]))
        elif operation == "list":
            mine = [
                each for each in self.reservations.values() if args.get("user") in (None, each.user)
            ]
            exchange.succeed(ReservationsReply(reservations=mine))
        elif operation == "withdraw":
            made_by = self._made.get(args["request"], "")
            ended = self.end(made_by) if made_by in self.reservations else None
            exchange.succeed(WithdrawReply(reservation=ended))
        elif args["reservation"] not in self.reservations:
            exchange.fail(UnknownReservation("there is no such reservation"))
        elif operation == "extend":
            before = self.reservations[args["reservation"]]
            after = self.change(before.id, until=before.until + timedelta(seconds=args["duration"]))
            self.on_extended(before.id)
            exchange.succeed(ExtendReply(reservation=after, before=before.until, after=after.until))
        elif operation == "end" and "serials" in args:
            exchange.succeed(ReservationReply(reservation=self.let_go(**args)))
        elif operation == "end":
            exchange.succeed(ReservationReply(reservation=self.end(args["reservation"])))
        elif operation == "attach":
            attached = self.change(args["reservation"], client=args.get("client"))
            exchange.succeed(ReservationReply(reservation=attached))
        elif operation == "transfer":
            to = args.get("user")
            offer = None if to is None else Offer(to=to, until=now() + timedelta(hours=1))
            offered = self.change(args["reservation"], offer=offer, client=None)
            exchange.succeed(ReservationReply(reservation=offered))
        elif operation == "accept":
            taken = self.change(args["reservation"], user=incoming.ids["user"], offer=None)
            exchange.succeed(ReservationReply(reservation=taken))
        elif operation == "decline":
            kept = self.change(args["reservation"], offer=None)
            exchange.succeed(ReservationReply(reservation=kept))

    def make(self, user: str, args: dict[str, Any]) -> Reservation:
        """Devices are d1, d2, …; odd ones belong to w1, even ones to w2."""
        serials = args.get("serials") or [f"d{n + 1}" for n in range(args["count"])]
        start = now()
        waits = self.queue is not None and args.get("wait", 0) > 0
        return Reservation(
            id=new_id(),
            user=user,
            kind=args["kind"],
            state=ReservationState.QUEUED if waits else ReservationState.PREPARING,
            devices=[] if waits else [device(serial, self.state) for serial in serials],
            created=start,
            until=start + timedelta(seconds=args["wait"] if waits else args["duration"]),
            client=args.get("client"),
            priority=args.get("priority", 0),
            replace=args.get("replace", False),
            queue=self.queue if waits else None,
        )

    def change(self, reservation: str, **facts: Any) -> Reservation:
        """Change a reservation, and tell."""
        before = self.reservations[reservation]
        changed = before.model_copy(update={"revision": before.revision + 1, **facts})
        self.publish(changed)
        return changed

    def give(self, reservation: str, *serials: str, seconds: float = 60.0) -> None:
        """Give devices to a reservation that waits."""
        self.change(
            reservation,
            state=ReservationState.ACTIVE,
            devices=[device(serial, self.state) for serial in serials],
            until=now() + timedelta(seconds=seconds),
            queue=None,
        )

    def let_go(self, reservation: str, serials: list[str]) -> Reservation:
        """Release some devices of a reservation."""
        return self.change(reservation, devices=self._without(reservation, serials))

    def replace(self, reservation: str, serial: str, by: str) -> None:
        """Have another device take the place of one that has failed, in one step."""
        fresh = device(by, HoldState.PREPARING)
        self.change(reservation, devices=[*self._without(reservation, [serial]), fresh])
        replaced = DeviceReplaced(reservation=reservation, serial=serial, by=by)
        self.emit(reservation, serial, "device_replaced", replaced)

    def _without(self, reservation: str, serials: list[str]) -> list[HeldDevice]:
        """Its devices, some of them released."""
        return [
            each.model_copy(update={"state": HoldState.RELEASED})
            if each.serial in serials
            else each
            for each in self.reservations[reservation].devices
        ]

    def publish(self, reservation: Reservation) -> Future[None]:
        self.reservations[reservation.id] = reservation
        topic = RESERVATION(reservation=reservation.id)
        return self.bus.publish(topic, reservation)

    def set(
        self, reservation: str, state: HoldState, reason: str = "", only: Collection[str] = ()
    ) -> None:
        devices = [
            each.model_copy(update={"state": state, "reason": reason})
            if not only or each.serial in only
            else each
            for each in self.reservations[reservation].devices
        ]
        self.change(reservation, devices=devices)

    def end(self, reservation: str, reason: EndReason = EndReason.RELEASED) -> Reservation:
        ended = self.change(reservation, state=ReservationState.ENDED, reason=reason)
        del self.reservations[reservation]
        self.bus.clear(RESERVATION(reservation=reservation))
        return ended

    def emit(
        self, reservation: str, serial: str, name: str, data: Message, user: str = "alice"
    ) -> None:
        self._sequence += 1
        topic = EVENT(user=user, reservation=reservation, sender=CONTROL, serial=serial, event=name)
        self.bus.publish(topic, Event(sequence=self._sequence, data=data))
