"""Everybody else on the bus of a worker."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel
from tests.worker.device_harness import desired
from tests.worker.waiting import TIMEOUT

from icebus.broker.embedded import EmbeddedBroker
from icebus.bus import Bus, Incoming, Requester
from icebus.schemas.calls import Call, CallResults
from icebus.schemas.components import WorkerState
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import Desired, DeviceEvent, DeviceReport, DeviceState
from icebus.schemas.errors import IcebusError
from icebus.schemas.files import ENCODING_PROPERTY, pack, sha256_of
from icebus.schemas.ids import new_id
from icebus.schemas.message import decode
from icebus.schemas.topics import BLOB, CALL, DESIRED, DEVICE, EVENT, WORKER_EVENT, WORKER_STATE
from icebus.worker.states import Hold

T = TypeVar("T")


class Peers:
    """Everybody else on the bus: the test speaks as control and as two users."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        self.broker = broker
        self.hold = Hold(reservation=new_id("r-"), user="alice")
        self._changed = threading.Condition()
        self.generations: dict[str, int] = {}
        self.nonces = itertools.count(1)
        self.reports: dict[str, list[DeviceReport | None]] = {}
        self.worker_states: list[WorkerState] = []
        self.device_events: list[DeviceEvent] = []
        self.events: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.control = self._bus("main")
        self.users = {"alice": self._bus("alice"), "bob": self._bus("bob")}
        self.control.subscribe(DEVICE, self._on_device)
        self.control.subscribe(WORKER_STATE, self._on_worker)
        self.control.subscribe(WORKER_EVENT, self._on_worker_event)
        self.requesters: dict[str, Requester] = {}
        for name, bus in self.users.items():
            bus.subscribe(EVENT, self._on_event, user=name)
            self.requesters[name] = Requester(bus, name, f"client-{name}")

    def _bus(self, principal: str) -> Bus:
        bus = Bus(self.broker.address(principal), principal)
        bus.connect(Deadline.after(TIMEOUT))
        return bus

    def close(self) -> None:
        for requester in self.requesters.values():
            requester.close()
        for bus in [self.control, *self.users.values()]:
            bus.close(Deadline.after(1))

    # --- what control does ----------------------------------------------------------------------

    def desire(self, serial: str, hold: Hold | None, **fields: Any) -> int:
        generation = self.generations[serial] = self.generations.get(serial, 0) + 1
        self.publish_desired(desired(serial, generation, hold, **fields))
        return generation

    def publish_desired(self, wanted: Desired) -> None:
        topic = DESIRED(worker="w1", serial=wanted.serial)
        self.control.publish(topic, wanted).result(TIMEOUT)

    def reserve(self, *serials: str, **fields: Any) -> None:
        """Have the devices serve ``self.hold``."""
        generations = {serial: self.desire(serial, self.hold, **fields) for serial in serials}
        for serial, generation in generations.items():
            self.wait_state(serial, DeviceState.SERVING, generation=generation)

    def release(self, *serials: str) -> None:
        generations = {serial: self.desire(serial, None) for serial in serials}
        for serial, generation in generations.items():
            self.wait_state(serial, DeviceState.READY, generation=generation)

    # --- what users do --------------------------------------------------------------------------

    def send_blob(
        self,
        content: bytes,
        user: str = "alice",
        sha256: str | None = None,
        encoding: str | None = None,
    ) -> str:
        packed, how = pack(content)
        name = sha256 or sha256_of(content)
        self.users[user].publish(
            BLOB(worker="w1", user=user, sha256=name),
            packed,
            properties={ENCODING_PROPERTY: encoding or how},
        ).result(TIMEOUT)
        return name

    def call(
        self,
        method: str,
        *serials: str,
        user: str = "alice",
        reservation: str | None = None,
        **args: Any,
    ) -> CallResults:
        held = reservation or self.hold.reservation
        request = Call(id=new_id(), reservation=held, serials=list(serials), args=args)
        topic = CALL(worker="w1", user=user, method=method)
        deadline = Deadline.after(TIMEOUT)
        return self.requesters[user].send(topic, request, "w1", CallResults, deadline).wait()

    def check_answers(self) -> None:
        """Check that the worker answers a call."""
        assert self.call("status", "BOARD1").errors == {}

    def refused(self, method: str, *serials: str, **more: Any) -> IcebusError:
        """The error that a call is answered with."""
        with pytest.raises(IcebusError) as refusal:
            self.call(method, *serials, **more)
        return refusal.value

    def evaluate(
        self, serial: str, *contents: bytes, batch: str = "batch", **more: Any
    ) -> list[str]:
        """Queue bitstreams on a device; gives the ids of the evaluations."""
        files = []
        for content in contents:
            sha256 = self.send_blob(content)
            files.append({"id": new_id(), "name": f"{sha256[:6]}.bin", "sha256": sha256})
        answer = self.call("evaluate", serial, bitstreams=files, batch=batch, **more)
        assert answer.errors == {}
        return [str(file["id"]) for file in files]

    # --- what is heard --------------------------------------------------------------------------

    def wait(self, condition: Callable[[], T], what: str) -> T:
        with self._changed:
            self._changed.wait_for(condition, TIMEOUT)
            value = condition()
            assert value, f"waited in vain for {what}; reports: {self.reports}"
            return value

    def last(self, serial: str) -> DeviceReport | None:
        return (self.reports.get(serial) or [None])[-1]

    def wait_state(
        self, serial: str, *states: DeviceState, generation: int = 0, session: str = ""
    ) -> DeviceReport:
        """The device's latest report, once it tells of one of these states."""

        def look() -> DeviceReport | None:
            report = self.last(serial)
            if report is None or report.generation < generation:
                return None
            fits = report.state in states and session in ("", report.session)
            return report if fits else None

        found = self.wait(look, f"{serial} to be {states}")
        assert found is not None
        return found

    def mark(self, serial: str) -> int:
        """How many reports there were: for :meth:`wait_since`."""
        return len(self.reports.get(serial, []))

    def wait_since(self, serial: str, mark: int, state: DeviceState) -> DeviceReport:
        """The first report of ``state`` after ``mark``, even if others have followed."""
        found = self.wait(
            lambda: [r for r in self.reports.get(serial, [])[mark:] if r and r.state is state],
            f"{serial} to go through {state}",
        )
        assert found[0] is not None
        return found[0]

    def outcomes(self, evaluation: str) -> list[tuple[str, dict[str, Any]]]:
        """Every outcome of an evaluation that was told, repetitions included."""
        return [
            (levels["event"], event["data"])
            for levels, event in self.events
            if levels["event"] in ("results", "failures")
            and event["data"]["evaluation"] == evaluation
        ]

    def wait_outcome(self, evaluation: str, number: int = 1) -> tuple[str, dict[str, Any]]:
        return self.wait(
            lambda: self.outcomes(evaluation)[number - 1 : number], f"outcome {number}"
        )[0]

    def wait_event(self, name: str, count: int = 1) -> dict[str, Any]:
        found = self.wait(
            lambda: [e["data"] for levels, e in self.events if levels["event"] == name][
                count - 1 :
            ],
            name,
        )
        data: dict[str, Any] = found[0]
        return data

    def wait_worker(self, matching: Callable[[WorkerState], bool]) -> WorkerState:
        return self.wait(
            lambda: [s for s in self.worker_states[-1:] if matching(s)], "the worker's state"
        )[0]

    def _on_device(self, incoming: Incoming) -> None:
        report = decode(DeviceReport, incoming.payload) if incoming.payload else None
        with self._changed:
            self.reports.setdefault(incoming.ids["serial"], []).append(report)
            self._changed.notify_all()

    def _on_worker(self, incoming: Incoming) -> None:
        with self._changed:
            self.worker_states.append(decode(WorkerState, incoming.payload))
            self._changed.notify_all()

    def _on_worker_event(self, incoming: Incoming) -> None:
        with self._changed:
            self.device_events.append(decode(DeviceEvent, incoming.payload))
            self._changed.notify_all()

    def _on_event(self, incoming: Incoming) -> None:
        with self._changed:
            self.events.append((incoming.ids, decode(AnyEvent, incoming.payload).model_dump()))
            self._changed.notify_all()


class AnyEvent(BaseModel):
    sequence: int
    data: dict[str, Any]
