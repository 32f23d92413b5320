"""Messages that come twice, late and out of order: QoS 1 promises at least once, and no more."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.by_hand import publish_by_hand
from tests.faults.conftest import check, some, start_evaluate, start_map

from bench.farm import CONTROL
from icebus.bus import Bus, Incoming
from icebus.schemas.deadline import Deadline
from icebus.schemas.topics import (
    CALL,
    CLIENT_STATE,
    DESIRED,
    DEVICE,
    EVENT,
    OPERATION,
    REPLY,
    RESERVATION,
    WORKER_STATE,
    Topic,
)

if TYPE_CHECKING:
    from tests.faults.conftest import Lab

    from icebus.client import PulseCountClient

MARK = "replayed"

KEPT = 12
"""Messages of a topic that may come again."""


class Replayer:
    """Sends again what others sent, with their names, from connections of its own.

    Requests, calls, replies and events come again in any order. Of states, whose order a broker
    keeps, the last few come again in theirs: so they do when a connection is lost unacknowledged.
    """

    def __init__(self, lab: Lab, seed: int) -> None:
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._heard: dict[str, list[Incoming]] = {}
        self.count = 0
        addresses = {
            name: lab.farm.broker.address(name) for name in (CONTROL, *lab.farm.workers, "ann")
        }
        self._buses = {
            name: Bus(each, "replayer", session_expiry=0) for name, each in addresses.items()
        }
        for bus in self._buses.values():
            bus.connect(Deadline.after(30))
        for worker in lab.farm.workers:
            self._repeat(CALL, by="ann", heard_by=worker, worker=worker)
            self._repeat(EVENT, by=worker, heard_by="ann", user="ann", sender=worker)
            self._repeat(REPLY, by=worker, heard_by="ann", user="ann", sender=worker)
            self._repeat(DEVICE, by=worker, heard_by=CONTROL, worker=worker)
            self._repeat(WORKER_STATE, by=worker, heard_by=CONTROL, worker=worker)
            self._repeat(DESIRED, by=CONTROL, heard_by=worker, worker=worker)
        self._repeat(EVENT, by=CONTROL, heard_by="ann", user="ann", sender="control")
        self._repeat(REPLY, by=CONTROL, heard_by="ann", user="ann", sender="control")
        self._repeat(OPERATION, by="ann", heard_by=CONTROL, user="ann")
        self._repeat(RESERVATION, by=CONTROL, heard_by="ann")
        self._repeat(CLIENT_STATE, by="ann", heard_by=CONTROL, user="ann")

    def _repeat(self, topic: Topic, *, by: str, heard_by: str, **ids: str) -> None:
        def hear(incoming: Incoming) -> None:
            if incoming.retained or MARK in incoming.properties:
                return
            with self._lock:
                kept = self._heard.setdefault(incoming.topic, [])
                kept.append(incoming)
                del kept[:-KEPT]
                size = self._chance.randint(1, min(3, len(kept)))
                again = kept[-size:] if topic.retained else self._chance.sample(kept, size)
                self.count += len(again)
                for each in again:
                    self._send(self._buses[by], each)

        self._buses[heard_by].subscribe(topic, hear, **ids).acknowledged.result(30)

    def _send(self, bus: Bus, incoming: Incoming) -> None:
        # Not retained, or the broker would keep an older word than its author's last.
        publish_by_hand(
            bus,
            incoming.topic,
            incoming.payload,
            response_topic=incoming.response_topic,
            correlation=incoming.correlation,
            properties={**incoming.properties, MARK: "yes"},
        )

    def close(self) -> None:
        for bus in self._buses.values():
            bus.close(Deadline.after(5))


@contextmanager
def replaying(lab: Lab, seed: int) -> Iterator[Replayer]:
    replayer = Replayer(lab, seed)
    yield replayer
    replayer.close()


def test_given_messages_that_come_again_in_any_order_then_everything_happens_once(
    lab: Lab, ann: PulseCountClient
) -> None:
    reservations = set()
    with replaying(lab, seed=7) as replayer:
        for _ in range(3):
            with ann.reserve(3) as boards:
                reservations.add(boards.id)
                mapped, evaluated = some(30), some(10)
                assert not check(start_map(boards, mapped).done(), mapped, [])
                assert not check(
                    start_evaluate(boards, evaluated).done(), evaluated, boards.serials
                )
                assert set(lab.holders()) == {boards.id}
        assert replayer.count > 200
    assert len(reservations) == 3
