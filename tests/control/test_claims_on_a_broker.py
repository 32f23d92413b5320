"""Claims and retirement with a control and workers on a real Mosquitto and a real database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from tests.control.fakes import TIMEOUT, until

from icebus.bus import BrokerAddress, Bus, Incoming, Requester
from icebus.schemas.calls import Request
from icebus.schemas.components import WorkerPhase
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceClaim, DeviceState
from icebus.schemas.errors import Conflict
from icebus.schemas.ids import CONTROL
from icebus.schemas.message import decode
from icebus.schemas.operations.administration import DevicesChanged, WorkerRetired
from icebus.schemas.topics import (
    ADMIN,
    CLAIM,
    DESIRED,
    DEVICE,
    WORKER_DESIRED,
    WORKER_HEARTBEAT,
    WORKER_KINDS,
    WORKER_STATE,
)

if TYPE_CHECKING:
    from tests.control.conftest import MakeWorker
    from tests.control.fakes import FakeClient

    from icebus.broker.embedded import EmbeddedBroker
    from icebus.control.server import Control

OF_WORKERS = (WORKER_STATE, WORKER_HEARTBEAT, WORKER_KINDS, DEVICE, DESIRED, WORKER_DESIRED)


class Board:
    """What the broker retains, as an administrator may see it all."""

    def __init__(self, address: BrokerAddress) -> None:
        self.changed = threading.Condition()
        self.retained: dict[str, bytes] = {}
        self.claims: dict[str, DeviceClaim] = {}
        self.bus = Bus(address, "root")
        self.requester = Requester(self.bus, "root", "client")
        for topic in (*OF_WORKERS, CLAIM):
            self.bus.subscribe(topic, self._hear)
        self.bus.connect(Deadline.after(TIMEOUT))

    def _hear(self, incoming: Incoming) -> None:
        with self.changed:
            topic = str(incoming.topic)
            if incoming.payload:
                self.retained[topic] = incoming.payload
            else:
                self.retained.pop(topic, None)
            if (levels := CLAIM.parse(topic)) is not None:
                if incoming.payload:
                    self.claims[levels["serial"]] = decode(DeviceClaim, incoming.payload)
                else:
                    self.claims.pop(levels["serial"], None)
            self.changed.notify_all()

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        return until(condition, self.changed, what)

    def of(self, worker: str) -> list[str]:
        return [topic for topic in self.retained if topic.startswith(f"worker/{worker}/")]

    def administer(self, operation: str, model: Any, **args: Any) -> Any:
        topic = ADMIN(user="root", operation=operation)
        deadline = Deadline.after(TIMEOUT)
        return self.requester.send(topic, Request(args=args), CONTROL, model, deadline).wait()


@pytest.fixture
def board(broker: EmbeddedBroker, control: Control) -> Iterator[Board]:
    board = Board(broker.address("root"))
    yield board
    board.requester.close()
    board.bus.close(Deadline.after(5))


def test_given_two_workers_that_claim_one_serial_then_all_are_told_and_the_first_one_serves(
    board: Board, make_worker: MakeWorker, alice: FakeClient
) -> None:
    make_worker("w1", "a")
    alice.wait_available(1)
    made = alice.reserve(count=1)
    alice.wait_event("initialized")

    second = make_worker("w2", "a")
    claim = board.wait(lambda: board.claims.get("a"), "the alarm")
    second.report("a", DeviceState.BROKEN, reason="taken")
    moved = board.administer("move", DevicesChanged, serials=["a"], to="w1")
    [device] = alice.list()[0].devices

    assert (claim.worker, claim.claimed_by) == ("w1", ["w2"])
    assert "icebus admin move a --to w2" in claim.remedy
    assert moved.serials == []
    assert (device.worker, device.state.value) == ("w1", "serving")
    assert second.desired == {}
    assert alice.devices().devices[0].claimed_by == ["w2"]
    assert alice.events[-1][0]["event"] == "initialized"
    # By an administrator it goes to the other one, and with it the reservation.
    second.report("a", DeviceState.READY)
    board.administer("move", DevicesChanged, serials=["a"], to="w2")
    second.wait_desired("a", lambda desired: desired.reservation == made.id)
    board.wait(lambda: board.claims["a"].worker == "w2", "the alarm to say so")


def test_given_a_board_that_is_unplugged_and_plugged_in_at_another_then_no_alarm_is_raised(
    board: Board, make_worker: MakeWorker, alice: FakeClient
) -> None:
    first = make_worker("w1", "a")
    second = make_worker("w2", "b")
    alice.wait_available(2)
    made = alice.reserve(serials=["a"])
    alice.wait_event("initialized")

    first.report("a", DeviceState.ABSENT)
    alice.wait_event("device_failed")
    second.reports["a"] = first.reports["a"].model_copy(update={"session": second.session})
    second.report("a", DeviceState.READY, generation=0, reservation=None)
    second.publish_state(WorkerPhase.READY)
    second.wait_desired("a", lambda desired: desired.reservation == made.id)
    alice.wait_event("initialized", 2)

    assert board.claims == {}
    assert [each.worker for each in alice.list()[0].devices] == ["w2"]


def test_given_a_worker_that_died_when_retired_then_the_broker_keeps_nothing_of_it(
    board: Board, make_worker: MakeWorker, alice: FakeClient
) -> None:
    first = make_worker("w1", "a", "b")
    make_worker("w2", "c")
    alice.wait_available(3)
    kept = alice.reserve(serials=["c"])
    ended = alice.reserve(serials=["a"])
    with pytest.raises(Conflict, match="is there"):
        board.administer("retire", WorkerRetired, worker="w1")
    first.kill()
    alice.wait_event("device_failed", serial="a")

    done = board.administer("retire", WorkerRetired, worker="w1", reason="sold")
    again = board.administer("retire", WorkerRetired, worker="w1")
    board.wait(lambda: not board.of("w1"), "nothing of w1 to be retained")

    assert (done.forgotten, done.lost, done.ended) == (["b"], ["a"], [ended.id])
    assert (again.forgotten, again.lost, again.ended) == ([], [], [])
    assert [each.id for each in alice.list()] == [kept.id]
    assert [each.report.serial for each in alice.devices().devices] == ["c"]
    # A worker of that name that is let in again is a new one, whose devices are known anew.
    make_worker("w1", "a", "b")
    alice.wait_available(2)
