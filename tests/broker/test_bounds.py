"""What one client can take of the broker, and that others do not notice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from icebus.broker import mosquitto
from icebus.broker.access import Principal
from icebus.broker.embedded import EmbeddedBroker
from icebus.schemas.deadline import Deadline
from icebus.schemas.topics import Role

WITHIN = 10.0

Connect = Callable[..., "Plain"]


class Plain:
    """A client of the broker that knows nothing of the bus."""

    def __init__(self, broker: EmbeddedBroker, user: str, session: int = 0) -> None:
        address = broker.address(user)
        self.root = address.root
        self.received: list[paho.MQTTMessage] = []
        self.changed = threading.Condition()
        self.gone = threading.Event()
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, reconnect_on_failure=False
        )
        self.client.username_pw_set(user, address.password)
        connected = threading.Event()
        self.client.on_connect = lambda *_: connected.set()
        self.client.on_disconnect = lambda *_: self.gone.set()
        self.client.on_message = self._receive
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = session
        self.client.connect(address.host, address.port, properties=properties)
        self.client.loop_start()
        assert connected.wait(WITHIN)

    def _receive(self, _client: object, _userdata: object, message: paho.MQTTMessage) -> None:
        with self.changed:
            self.received.append(message)
            self.changed.notify_all()

    def subscribe(self, topic: str) -> None:
        subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.subscribe(f"{self.root}/{topic}", qos=1)
        assert subscribed.wait(WITHIN)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Publish, and say whether the broker has taken it."""
        sent = self.client.publish(f"{self.root}/{topic}", payload, qos=1, retain=retain)
        try:
            while not sent.is_published() and not self.gone.is_set():
                sent.wait_for_publish(0.05)
            return sent.is_published()
        except RuntimeError:  # paho's, of what was published as the connection ended
            return False

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.received) >= count, WITHIN)


@pytest.fixture
def connect(mosquitto: None) -> Iterator[Connect]:
    clients: list[Plain] = []

    def connect_one(*arguments: object) -> Plain:
        clients.append(Plain(*arguments))  # type: ignore[arg-type]
        return clients[-1]

    yield connect_one
    for each in clients:
        each.client.disconnect()
        each.client.loop_stop()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedBroker]:
    """A broker that has 40 MiB."""
    monkeypatch.setattr(mosquitto, "MEMORY_LIMIT", 40 << 20)
    people = [Principal(id=name, role=Role.USER) for name in ("mallory", "alice")]
    broker = EmbeddedBroker(tmp_path / "small", [*people, Principal(id="lab1", role=Role.WORKER)])
    broker.start(Deadline.after(WITHIN))
    yield broker
    broker.stop(Deadline.after(WITHIN))


def test_given_a_broker_whose_memory_one_user_has_filled_then_only_that_one_is_disconnected(
    small: EmbeddedBroker, connect: Connect
) -> None:
    worker = connect(small, "lab1")
    worker.subscribe("worker/lab1/call/+/+")
    alice = connect(small, "alice")
    mallory = connect(small, "mallory")
    taken = 0
    while mallory.publish(f"worker/lab1/blob/mallory/{taken:064}", b"x" * 1_900_000, retain=True):
        taken += 1
        assert taken < 100
    assert taken > 5
    for _ in range(20):
        assert alice.publish("worker/lab1/call/alice/evaluate", b"{}")
    worker.wait_for(20)
    assert not alice.gone.is_set()
    assert not worker.gone.is_set()
    assert small.child.running


def test_given_1000_devices_when_a_client_asks_for_all_that_is_retained_then_none_is_missing(
    broker: EmbeddedBroker, connect: Connect
) -> None:
    broker.add_principals([Principal(id="lab9", role=Role.WORKER)])
    broker.add_principals([Principal(id="wall", role=Role.OBSERVER)])
    worker = connect(broker, "lab9")
    sent = [
        worker.client.publish(
            f"{worker.root}/worker/lab9/device/D{number}", b"x" * 8000, qos=1, retain=True
        )
        for number in range(1000)
    ]
    for each in sent:
        each.wait_for_publish(WITHIN)
    wall = connect(broker, "wall")
    wall.subscribe("worker/+/device/+")
    wall.wait_for(1000)


def test_given_a_broker_then_it_may_open_a_file_for_each_connection(broker: EmbeddedBroker) -> None:
    limits = Path(f"/proc/{broker.child.process.pid}/limits").read_text()
    line = next(each for each in limits.splitlines() if each.startswith("Max open files"))
    soft, hard = (int(each) for each in line.split()[3:5])
    assert soft >= min(mosquitto.OPEN_FILES, hard)


def test_given_a_broker_then_each_listener_and_each_client_is_bounded(
    broker: EmbeddedBroker,
) -> None:
    text = (broker.directory / "mosquitto.conf").read_text()
    for line in ("max_connections 2000", "max_queued_bytes 134217728", "memory_limit 1073741824"):
        assert f"{line}\n" in text
