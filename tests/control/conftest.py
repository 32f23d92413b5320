"""A control on a real broker, and at its edges a worker and a client that speak the topics."""

from __future__ import annotations

import queue
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from pydantic import BaseModel
from tests.control.harness import Harness

from icebus.broker.embedded import EmbeddedBroker
from icebus.bus import Bus, Incoming, Requester, StatePublisher, Will
from icebus.bus._address import BrokerAddress
from icebus.control.server import Control
from icebus.control.settings import Settings
from icebus.control.store.database import Database
from icebus.schemas import components
from icebus.schemas.calls import RawEvent, Request
from icebus.schemas.components import (
    ClientState,
    Heartbeat,
    KindInfo,
    WorkerHeartbeat,
    WorkerKinds,
    WorkerPhase,
    WorkerState,
)
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import Desired, DeviceReport, DeviceState
from icebus.schemas.errors import UnknownKind
from icebus.schemas.ids import CONTROL, new_id
from icebus.schemas.message import decode, now
from icebus.schemas.reservations import (
    AvailableReply,
    DevicesReply,
    ExtendReply,
    Reservation,
    ReservationReply,
    ReservationsReply,
)
from icebus.schemas.topics import (
    CLIENT_STATE,
    CONTROL_HEARTBEAT,
    DESIRED,
    DEVICE,
    EVENT,
    OPERATION,
    RESERVATION,
    WORKER_HEARTBEAT,
    WORKER_KINDS,
    WORKER_STATE,
)

if TYPE_CHECKING:
    from tests.postgresql import PostgresServer

TIMEOUT = 20.0
"""Seconds a test waits for what should come within milliseconds."""

STATE_INTERVAL = 20.0
"""Seconds of which the broker keeps a client's state for three: longer than any test takes."""

SETTINGS = Settings(interval=1.0, grace=0.6, max_duration=7200.0)
"""On a busy machine a thread of ours stands still for as long as three shorter heartbeats take."""

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

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


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


class FakeWorker:
    """A worker whose devices are data: it does what is desired of them at once."""

    def __init__(self, address: BrokerAddress, serials: list[str]) -> None:
        self.id = address.user
        self.session = new_id()
        self.changed = threading.Condition()
        self.desired: dict[str, Desired] = {}
        self.echoing = True
        self.killed = False
        self.reports = {
            serial: self.report(serial, DeviceState.READY, firmware="pulse_count")
            for serial in serials
        }
        topic = WORKER_STATE(worker=self.id)
        will = Will(topic, self._state(WorkerPhase.LOST))
        self.bus = Bus(address, self.id, will=will)
        self._state_publisher = StatePublisher(self.bus, WORKER_STATE, worker=self.id)
        self.bus.subscribe(CONTROL_HEARTBEAT, self._on_heartbeat)
        self.bus.subscribe(DESIRED, self._on_desired, worker=self.id)
        self.bus.on_connected(self._announce)
        self.say(WorkerPhase.READY)

    def start(self) -> FakeWorker:
        self.bus.connect(Deadline.after(TIMEOUT))
        return self

    def stop(self) -> None:
        if self.killed:
            return
        self._state_publisher.close(self._state(WorkerPhase.OFFLINE))
        self.bus.close(Deadline.after(5))

    def kill(self) -> None:
        """Go without a word; the broker speaks the will."""
        self.killed = True
        reason = ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message")
        self.bus._client.disconnect(reasoncode=reason)
        self.bus.close(Deadline.after(0.1))

    def say(self, phase: WorkerPhase) -> None:
        self._state_publisher.publish(self._state(phase))

    def report(self, serial: str, state: DeviceState, **fields: Any) -> DeviceReport:
        return DeviceReport(
            serial=serial, state=state, since=now(), session=self.session, chip="rp2040", **fields
        )

    def show(self, serial: str, state: DeviceState, **fields: Any) -> None:
        """Report on a device, keeping what is not said otherwise."""
        before = self.reports[serial].model_dump(exclude={"state", "since", "session", "reason"})
        before |= fields
        before.pop("serial"), before.pop("chip")
        self.reports[serial] = self.report(serial, state, **before)
        self._publish_report(serial)

    def _state(self, phase: WorkerPhase) -> WorkerState:
        return WorkerState(state=phase, session=self.session, serials=sorted(self.reports))

    def _announce(self) -> None:
        self.bus.publish(WORKER_KINDS(worker=self.id), KINDS)
        for serial in self.reports:
            self._publish_report(serial)

    def _publish_report(self, serial: str) -> None:
        topic = DEVICE(worker=self.id, serial=serial)
        self.bus.publish(topic, self.reports[serial])

    def _on_heartbeat(self, incoming: Incoming) -> None:
        if not incoming.payload or not self.echoing:
            return
        beat = decode(Heartbeat, incoming.payload)
        echo = WorkerHeartbeat(epoch=beat.epoch, sequence=beat.sequence, session=self.session)
        self.bus.publish(WORKER_HEARTBEAT(worker=self.id), echo, interval=beat.interval)

    def _on_desired(self, incoming: Incoming) -> None:
        if not incoming.payload:
            return
        desired = decode(Desired, incoming.payload)
        with self.changed:
            known = self.desired.get(desired.serial)
            if known is not None and desired.generation < known.generation:
                return
            self.desired[desired.serial] = desired
            self.changed.notify_all()
        if desired.serial in self.reports:
            self.obey(desired)

    def obey(self, desired: Desired) -> None:
        fields = {
            "generation": desired.generation,
            "reservation": desired.reservation,
            "user": desired.user,
            "kind": desired.kind,
        }
        if desired.quarantined is not None:
            self.show(desired.serial, DeviceState.QUARANTINED, **fields)
            return
        if desired.reservation is None:
            self.show(desired.serial, DeviceState.READY, **fields)
            return
        self.show(desired.serial, DeviceState.PREPARING, **fields)
        self.show(desired.serial, DeviceState.SERVING, **fields)

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


class MakeWorker(Protocol):
    def __call__(self, name: str, *serials: str) -> FakeWorker: ...


class MakeClient(Protocol):
    def __call__(self, user: str) -> FakeClient: ...


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file that is ready to be copied."""
    path = tmp_path_factory.mktemp("database") / "control.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()
    return path


@pytest.fixture(scope="session")
def migrated_template(postgresql: PostgresServer) -> str:
    """The name of a database that is ready to be copied."""
    name = postgresql.create()
    database = Database(postgresql.url(name))
    database.migrate()
    database.close()
    return name


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    """The kind of database: whoever asks for one is run on each."""
    kind: str = request.param
    return kind


@pytest.fixture
def empty_database_url(
    backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[str]:
    """A database without tables."""
    if backend == "sqlite":
        yield f"sqlite:///{tmp_path / 'deep' / 'control.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgresql")
    name = server.create()
    yield server.url(name)
    server.drop(name)


@pytest.fixture
def database_url(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A migrated database."""
    if backend == "sqlite":
        yield f"sqlite:///{shutil.copy(request.getfixturevalue('migrated'), tmp_path)}"
        return
    server: PostgresServer = request.getfixturevalue("postgresql")
    name = server.create(request.getfixturevalue("migrated_template"))
    yield server.url(name)
    server.drop(name)


def without_idle_timeout(url: str) -> str:
    """A database that waits for whoever stands still: a test on a busy machine, tried once."""
    if url.startswith("sqlite"):
        return url
    return f"{url}&options=-c%20idle_in_transaction_session_timeout%3D0"


@pytest.fixture
def harness(database_url: str) -> Iterator[Harness]:
    """Control's operations on a real database, without a broker."""
    database = Database(without_idle_timeout(database_url))
    yield Harness(database)
    database.close()


@pytest.fixture
def control_settings() -> Settings:
    """Little grace for clients; parametrize a test that needs others."""
    return SETTINGS


@pytest.fixture
def control(
    broker: EmbeddedBroker, database_url: str, control_settings: Settings
) -> Iterator[Control]:
    """A running control."""
    running = Control(broker.address("main"), Database(database_url), control_settings)
    running.start(Deadline.after(TIMEOUT))
    yield running
    running.stop(Deadline.after(5))
    assert not running._thread.is_alive()


@pytest.fixture
def make_worker(broker: EmbeddedBroker) -> Iterator[MakeWorker]:
    """Starts workers with ready devices, and stops them."""
    running: list[FakeWorker] = []

    def make(name: str, *serials: str) -> FakeWorker:
        worker = FakeWorker(broker.address(name), list(serials))
        running.append(worker)
        return worker.start()

    yield make
    for worker in running:
        worker.stop()


@pytest.fixture
def make_client(broker: EmbeddedBroker) -> Iterator[MakeClient]:
    """Starts clients, and stops them."""
    running: list[FakeClient] = []

    def make(user: str) -> FakeClient:
        client = FakeClient(broker.address(user))
        running.append(client)
        return client.start()

    yield make
    for client in running:
        client.stop()


@pytest.fixture
def alice(make_client: MakeClient) -> FakeClient:
    return make_client("alice")
