"""A worker that does what a test tells it."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from tests.client.observed import SOON, Observed

from icebus.broker.embedded import EmbeddedBroker
from icebus.bus import Bus, Exchange, Incoming, Responder, Will
from icebus.schemas.calls import Call, CallResults, Event
from icebus.schemas.components import WorkerPhase, WorkerState
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BlobMissing, IcebusError
from icebus.schemas.files import ENCODING_PROPERTY, File, unpack
from icebus.schemas.ids import new_id
from icebus.schemas.kinds.pulsecount import PulseCountResult
from icebus.schemas.measuring import BatchFinished, Failure, Queued, Result
from icebus.schemas.message import Message, now
from icebus.schemas.topics import BLOB, CALL, EVENT, WORKER_STATE


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
        self.calls = Observed()
        self.evaluations = Observed()
        self.acknowledged = Observed()
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
