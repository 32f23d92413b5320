"""Two controls on one database, of which the one that leads can't reach it, or neither can."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from tests.control.fakes import until
from tests.control.socket_proxy import SocketProxy

from icebus.broker.access import Principal
from icebus.bus import Incoming
from icebus.control.server import Control
from icebus.control.settings import Settings
from icebus.control.store import watchdog
from icebus.control.store.database import Database
from icebus.schemas.components import ControlState, Heartbeat
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import DatabaseUnavailable
from icebus.schemas.message import decode
from icebus.schemas.topics import CONTROL_HEARTBEAT, CONTROL_STATE, Role

if TYPE_CHECKING:
    from tests.control.conftest import MakeWorker
    from tests.control.fakes import FakeClient
    from tests.postgresql import PostgresServer

    from icebus.broker.embedded import EmbeddedBroker

SETTINGS = Settings(interval=1.0, grace=20.0)

pytestmark = pytest.mark.parametrize("backend", ["postgresql"])


class Controls:
    """Two, the first of which leads, over a way that can be blocked.

    Attributes:
        blocked: that way.
        states: what each says of itself, by name.
        beats: heartbeats as they come.
    """

    def __init__(
        self, broker: EmbeddedBroker, server: PostgresServer, url: str, hears: FakeClient
    ) -> None:
        self.blocked = SocketProxy(server.directory)
        self.changed = threading.Condition()
        self.states: dict[str, ControlState] = {}
        self.beats: queue.SimpleQueue[Heartbeat] = queue.SimpleQueue()
        hears.bus.subscribe(CONTROL_STATE, self._on_state)
        hears.bus.subscribe(CONTROL_HEARTBEAT, self._on_beat)
        broker.add_principals([Principal(id="second", role=Role.CONTROL)])
        through = url.replace(str(server.directory), str(self.blocked.directory))
        self._running = []
        for name, where in (("main", through), ("second", url)):
            control = Control(broker.address(name), Database(where), SETTINGS)
            control.start(Deadline.after(20))
            self._running.append(control)
            self.wait_leader("main")

    def _on_state(self, incoming: Incoming) -> None:
        with self.changed:
            self.states[incoming.ids["control"]] = decode(ControlState, incoming.payload)
            self.changed.notify_all()

    def _on_beat(self, incoming: Incoming) -> None:
        if not incoming.retained:
            self.beats.put(decode(Heartbeat, incoming.payload))

    def leaders(self) -> list[str]:
        return [name for name, state in self.states.items() if state.leading]

    def wait_leader(self, name: str) -> None:
        until(lambda: self.leaders() == [name], self.changed, f"{name} alone to lead")

    def wait_trouble(self, *names: str) -> None:
        until(
            lambda: (
                sorted(n for n, s in self.states.items() if s.database is not None) == sorted(names)
            ),
            self.changed,
            f"trouble of {names}",
        )

    def next_epochs(self, count: int) -> set[str]:
        """Who beats from now on."""
        while not self.beats.empty():
            self.beats.get()
        return {self.beats.get(timeout=20).epoch for _ in range(count)}

    def close(self) -> None:
        self.blocked.unblock()
        for control in self._running:
            control.stop(Deadline.after(10))
        self.blocked.close()


@pytest.fixture
def controls(
    broker: EmbeddedBroker,
    postgresql: PostgresServer,
    database_url: str,
    alice: FakeClient,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Controls]:
    monkeypatch.setattr(watchdog, "OVERDUE", 0.5)
    monkeypatch.setattr(watchdog, "DEADLINE", 1.5)
    monkeypatch.setattr(watchdog, "TICK", 0.1)
    made = Controls(broker, postgresql, database_url, alice)
    yield made
    made.close()


def test_given_a_database_that_the_leader_or_nobody_reaches_then_one_leads_and_nothing_is_lost(
    controls: Controls, postgresql: PostgresServer, make_worker: MakeWorker, alice: FakeClient
) -> None:
    worker = make_worker("w1", "a", "b")
    alice.wait_available(2)
    before = alice.reserve(serials=["a"])

    controls.blocked.block()
    controls.wait_leader("second")
    controls.wait_trouble("main")
    # Whichever of them hears it: the first one leaves it to the other.
    made = alice.reserve(serials=["b"])
    extended = [alice.extend(before.id, 1.0).after for _ in range(2)]
    worker.wait_desired("b", lambda desired: desired.reservation == made.id)
    assert controls.next_epochs(2) == {controls.states["second"].session}
    controls.blocked.unblock()
    controls.wait_trouble()
    assert controls.next_epochs(1) == {controls.states["second"].session}
    assert extended[0] < extended[1] == alice.list()[0].until

    postgresql.freeze()
    try:
        controls.wait_trouble("main", "second")
        with pytest.raises(DatabaseUnavailable):
            alice.extend(before.id, 1.0)
    finally:
        postgresql.thaw()
    controls.wait_trouble()
    alice.extend_when_back(made.id, 1.0)

    until(lambda: len(controls.leaders()) == 1, controls.changed, "one of them to lead")
    assert len(controls.next_epochs(2)) == 1
    assert [each.id for each in alice.list()] == [before.id, made.id]
