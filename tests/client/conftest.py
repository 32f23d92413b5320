"""A scripted control and scripted workers: they speak the real topics, and fail when told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from icebus.broker.embedded import EmbeddedBroker
from icebus.bus import Bus, Exchange, Incoming, Responder, Will
from icebus.client import PulseCountClient
from icebus.schemas.calls import Call, CallResults, Event, Request
from icebus.schemas.components import Presence, WorkerPhase, WorkerState
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BlobMissing, IcebusError, UnknownReservation
from icebus.schemas.files import ENCODING_PROPERTY, File, unpack
from icebus.schemas.ids import CONTROL, new_id
from icebus.schemas.kinds.pulsecount import PulseCountResult
from icebus.schemas.measuring import BatchFinished, Failure, Queued, Result
from icebus.schemas.message import Message, now
from icebus.schemas.reservations import (
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
from icebus.schemas.topics import (
    BLOB,
    CALL,
    CLIENT_STATE,
    EVENT,
    OPERATION,
    RESERVATION,
    SHARED_OPERATIONS,
    WORKER_STATE,
)

SOON = 10.0
"""Seconds that nothing in these tests takes unless it hangs."""


class Counter:
    """Something that happens in another thread, to be waited for."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.seen: list[Any] = []

    def add(self, what: object) -> None:
        with self._condition:
            self.seen.append(what)
            self._condition.notify_all()

    def wait(self, condition: Callable[[list[Any]], bool]) -> list[Any]:
        with self._condition:
            assert self._condition.wait_for(lambda: condition(self.seen), SOON), self.seen
            return list(self.seen)


class ScriptedWorker:
    """A worker that does what a test tells it to.

    Attributes:
        refuse: what to answer the next calls of `evaluate` with, in turn, instead of accepting.
        measure: whether to answer accepted evaluations with results by itself.
        twice: whether to send every outcome twice.
        names_device: whether outcomes name the device, as those of earlier versions do not.
        kept: evaluations of d1 that it has results of, for whoever collects them.
        model: of the kind's results.
    """

    model: type[Result] = PulseCountResult

    def __init__(self, broker: EmbeddedBroker, name: str) -> None:
        self.name = name
        self.session = new_id()
        self.refuse: list[IcebusError] = []
        self.measure = True
        self.twice = False
        self.names_device = True
        self.kept: list[str] = []
        self.calls = Counter()
        self.evaluations = Counter()
        self.acknowledged = Counter()
        self.blobs: dict[str, bytes] = {}
        self._sequence = 0
        self._batches: dict[str, list[bool]] = {}
        topic = WORKER_STATE(worker=name)
        will = Will(topic, self._state(WorkerPhase.LOST))
        self.bus = Bus(broker.address(name), name=name, will=will)
        self._responder = Responder(self.bus, name)
        self._subscriptions = [
            self.bus.subscribe(CALL, self._on_call, worker=name),
            self.bus.subscribe(BLOB, self._on_blob, worker=name),
        ]
        self.bus.connect(Deadline.after(SOON))
        for subscription in self._subscriptions:
            subscription.acknowledged.result(SOON)
        self.say(WorkerPhase.READY).result(SOON)

    def _state(self, phase: WorkerPhase) -> WorkerState:
        return WorkerState(state=phase, session=self.session)

    def say(self, phase: WorkerPhase) -> Future[None]:
        return self.bus.publish(WORKER_STATE(worker=self.name), self._state(phase))

    def restart(self) -> None:
        self.session = new_id()
        self.say(WorkerPhase.READY)

    def die(self) -> None:
        """Lose the connection without a word: the broker publishes the will."""
        self.bus._closing = True
        socket: Any = self.bus._client.socket()
        socket.shutdown(2)

    def close(self) -> None:
        self.bus.close(Deadline.after(1))

    def _on_blob(self, incoming: Incoming) -> None:
        data = unpack(incoming.payload, incoming.properties[ENCODING_PROPERTY])
        self.blobs[incoming.ids["sha256"]] = data

    def _on_call(self, incoming: Incoming) -> None:
        exchange = self._responder.accept(incoming, Call)
        if exchange is None:
            return
        method, call = incoming.ids["method"], exchange.request
        self.calls.add((method, call))
        if method == "acknowledge":
            for evaluation in call.args["evaluations"]:
                self.acknowledged.add(evaluation)
            exchange.succeed(CallResults(results={call.serials[0]: {"forgotten": 1}}))
        elif method == "collect":
            exchange.succeed(CallResults(results=self._collect(call)))
        elif self.refuse and method == "evaluate":
            exchange.fail(self.refuse.pop(0))
        elif method == "evaluate":
            self._evaluate(exchange, call)
        else:
            exchange.succeed(CallResults(results=dict.fromkeys(call.serials, method)))

    def _collect(self, call: Call) -> dict[str, Any]:
        kept = [name for name in self.kept if name not in self.acknowledged.seen]
        for name in kept:
            file = File(id=name, name=f"{name}.bin", sha256="0" * 64)
            batch = call.model_copy(update={"args": {"batch": "of-another-client"}})
            self.result(batch, "d1", file)
        return {"d1": {"repeated": len(kept), "outstanding": 0}}

    def _evaluate(self, exchange: Exchange[Call], call: Call) -> None:
        (serial,) = call.serials
        for evaluation in call.args["acknowledge"]:
            self.acknowledged.add(evaluation)
        files = [File.model_validate(file) for file in call.args["bitstreams"]]
        self.blobs.update({file.hash: file.blob.read() for file in files if file.data is not None})
        missing = [file.hash for file in files if file.hash not in self.blobs]
        if missing:
            exchange.fail(BlobMissing("send it first", sha256=missing))
            return
        accepted = Queued(evaluations=[file.id for file in files], depth=len(files))
        exchange.succeed(CallResults(results={serial: accepted.model_dump(mode="json")}))
        for file in files:
            self.evaluations.add((call, serial, file))
            if self.measure:
                self.result(call, serial, file)
        if not call.args["more"] and self.measure:
            finished = BatchFinished(
                reservation=call.reservation,
                serial=serial,
                batch=call.args["batch"],
                results=len(files),
                failures=0,
            )
            self.emit(call, serial, "finished", finished)

    def result(self, call: Call, serial: str, file: File, pulses: int = 1000) -> None:
        measured = self.measured(call, pulses)
        outcome = self.model(
            **self._outcome(call, serial, file), **measured, upload=0.1, window=1.0
        )
        self.emit(call, serial, "results", outcome)

    def measured(self, call: Call, pulses: int) -> dict[str, Any]:
        """What a result of the kind says beside what all results say."""
        return {"pulses": pulses, "exact": True}

    def failure(self, call: Call, serial: str, file: File, error: IcebusError) -> None:
        outcome = Failure(**self._outcome(call, serial, file), error=error)
        self.emit(call, serial, "failures", outcome)

    def _outcome(self, call: Call, serial: str, file: File) -> dict[str, Any]:
        return {
            "serial": serial if self.names_device else "",
            "evaluation": file.id,
            "batch": call.args["batch"],
            "bitstream": file.name,
            "sha256": file.hash,
            "annotations": file.annotations,
            "at": now(),
        }

    def emit(self, call: Call, serial: str, name: str, data: Message) -> None:
        topic = EVENT(
            user="alice", reservation=call.reservation, sender=self.name, serial=serial, event=name
        )
        for _ in range(2 if self.twice else 1):
            self._sequence += 1
            self.bus.publish(topic, Event(sequence=self._sequence, data=data))


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
        self.requests = Counter()
        self.clients = Counter()
        self.reservations: dict[str, Reservation] = {}
        self.bus = Bus(broker.address("main"), name="main")
        self._made: dict[str, str] = {}
        self._sequence = 0
        self._responder = Responder(self.bus, CONTROL)
        subscriptions = [
            self.bus.subscribe(OPERATION, self._on_request, shared=SHARED_OPERATIONS),
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
            mine = [r for r in self.reservations.values() if r.user == incoming.ids["user"]]
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
            given = self.change(args["reservation"], user=args["user"], client=None)
            exchange.succeed(ReservationReply(reservation=given))

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

    def emit(self, reservation: str, serial: str, name: str, data: Message) -> None:
        self._sequence += 1
        topic = EVENT(
            user="alice", reservation=reservation, sender=CONTROL, serial=serial, event=name
        )
        self.bus.publish(topic, Event(sequence=self._sequence, data=data))


@pytest.fixture(autouse=True)
def _short_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that are lost for good are waited for, but not for seconds."""
    monkeypatch.setattr("icebus.client._evaluating.run_state.WORKER_AWAY", 0.5)


@pytest.fixture
def control(broker: EmbeddedBroker) -> Iterator[ScriptedControl]:
    """A scripted control."""
    made = ScriptedControl(broker)
    yield made
    made.close()


@pytest.fixture
def w1(broker: EmbeddedBroker) -> Iterator[ScriptedWorker]:
    """A scripted worker that owns d1, d3, …"""
    made = ScriptedWorker(broker, "w1")
    yield made
    made.close()


@pytest.fixture
def w2(broker: EmbeddedBroker) -> Iterator[ScriptedWorker]:
    """A scripted worker that owns d2, d4, …"""
    made = ScriptedWorker(broker, "w2")
    yield made
    made.close()


@pytest.fixture
def alice(broker: EmbeddedBroker, control: ScriptedControl) -> Iterator[PulseCountClient]:
    """A client."""
    with PulseCountClient(broker.address("alice").url()) as client:
        yield client


@pytest.fixture
def circuits() -> list[Path]:
    """Three valid bitstreams."""
    found = sorted((Path(__file__).parents[2] / "examples" / "circuits").glob("*.bin"))
    assert len(found) >= 3
    return found


__all__ = ["Counter", "Presence", "ScriptedControl", "ScriptedWorker"]
