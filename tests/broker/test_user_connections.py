"""How many connections and sessions a user may have at the broker."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from tests.connections import Connect

from icebus.broker.directory import BrokerDirectory
from icebus.broker.embedded import EmbeddedBroker
from icebus.broker.logins import connections as bounds
from icebus.broker.logins.connections import CONNECTIONS, LEFT_BEHIND, Connections, Peer
from icebus.broker.service.service import BrokerService
from icebus.broker.service.sessions import Sessions
from icebus.schemas.deadline import Deadline
from icebus.schemas.ids import BROKER

Eventually = Callable[[Callable[[], bool]], None]

# --- what is known ------------------------------------------------------------------------------


def peer(port: int) -> Peer:
    return ("10.0.0.5", port)


def many(found: Connections, count: int, user: str = "alice") -> set[Peer]:
    for port in range(count):
        found.logged_in(f"{user}-{port}", user, peer(port))
    return {peer(port) for port in range(count)}


def test_given_as_many_connections_as_a_user_may_have_then_only_the_newest_beyond_are_ended() -> (
    None
):
    found = Connections()
    there = many(found, CONNECTIONS)
    assert not found.too_many
    found.logged_in("alice-new", "alice", peer(60_000))
    assert found.too_many
    assert found.beyond({*there, peer(60_000)}) == {peer(60_000): "alice"}


def test_given_lines_that_were_lost_then_connections_that_are_gone_do_not_count() -> None:
    found = Connections()
    there = many(found, CONNECTIONS)
    found.logged_in("alice-new", "alice", peer(60_000))
    assert found.beyond({*there, peer(60_000)} - {peer(3)}) == {}
    assert not found.too_many


def test_given_an_id_too_long_to_be_known_then_its_connection_is_ended() -> None:
    found = Connections()
    found.logged_in("", "", peer(1))
    found.logged_in("", "", peer(2))
    assert found.too_many
    assert found.beyond({peer(1)}) == {peer(1): ""}


def test_given_sessions_left_behind_then_the_oldest_beyond_the_bound_are_cleared_once() -> None:
    found = Connections()
    many(found, LEFT_BEHIND + 3)
    for port in range(LEFT_BEHIND + 3):
        found.ended(f"alice-{port}")
    found.logged_in("alice-1", "alice", peer(1))
    assert found.take_to_clear(10) == [("alice-0", "alice"), ("alice-2", "alice")]
    assert found.take_to_clear(10) == []


def test_given_a_component_then_each_session_that_it_leaves_is_cleared_at_once() -> None:
    found = Connections()
    found.keep_none_of(frozenset({"lab1"}))
    for client, user in (("w", "lab1"), ("a", "alice")):
        found.logged_in(client, user, peer(1))
        found.ended(client)
    assert found.take_to_clear(10) == [("w", "lab1")]

    found.logged_in("w", "lab1", peer(2))
    found.all_ended()
    assert found.take_to_clear(10) == [], "Mosquitto has taken up none"


def test_given_the_broker_itself_then_it_is_not_counted() -> None:
    found = Connections()
    many(found, 5000, BROKER)
    found.ended(f"{BROKER}-7")
    assert not found.too_many
    assert found.take_to_clear(10) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["in", "out", "all out", "beyond", "clear"]),
            st.sampled_from(["a", "b", "c", "d", ""]),
            st.sampled_from(["alice", "bob", BROKER]),
            st.integers(1, 4),
        ),
        max_size=60,
    )
)
def test_given_lines_in_any_order_then_nothing_fails_and_who_is_there_is_not_cleared(
    steps: list[tuple[str, str, str, int]],
) -> None:
    found, online = Connections(), set()
    for what, client, user, port in steps:
        match what:
            case "in":
                found.logged_in(client, user, peer(port))
                online.add(client)
            case "out":
                found.ended(client)
                online.discard(client)
            case "all out":
                found.all_ended()
                online.clear()
            case "beyond":
                found.beyond({peer(1), peer(2)})
            case _:
                assert not online & {each for each, _user in found.take_to_clear(2)}


# --- on a real broker ---------------------------------------------------------------------------


class Leaver:
    """Connects as somebody whose session is kept for a day."""

    def __init__(self, broker: EmbeddedBroker, client: str) -> None:
        address = broker.address("alice")
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client,
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
        )
        self.client.username_pw_set("alice", address.password)
        self.gone = threading.Event()
        self.present = False
        connected = threading.Event()

        def on_connect(_c: object, _u: object, flags: paho.ConnectFlags, *_: object) -> None:
            self.present = flags.session_present
            connected.set()

        self.client.on_connect = on_connect
        self.client.on_disconnect = lambda *_: self.gone.set()
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 86_400
        self.client.connect(address.host, address.port, properties=properties, clean_start=False)
        self.client.loop_start()
        assert connected.wait(10)

    def leave(self) -> bool:
        """Go without a word; returns whether there was a session before."""
        connection = self.client.socket()
        if isinstance(connection, socket.socket) and not self.gone.is_set():
            connection.shutdown(socket.SHUT_RDWR)
        self.client.loop_stop()
        return self.present


@pytest.fixture
def service(broker: EmbeddedBroker) -> Iterator[BrokerService]:
    part = Sessions(broker.logins, broker.address(BROKER))
    running = BrokerService(BrokerDirectory(broker.directory), broker.address(BROKER), [part])
    running.start()
    yield running
    running.stop(Deadline.after(5))


def test_given_a_user_who_leaves_sessions_behind_then_the_broker_keeps_the_last_ones_only(
    mosquitto: None,
    broker: EmbeddedBroker,
    service: BrokerService,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    eventually: Eventually,
) -> None:
    monkeypatch.setattr(bounds, "LEFT_BEHIND", 5)
    with caplog.at_level(logging.INFO, "icebus.broker.service"):
        for number in range(20):
            assert not Leaver(broker, f"left-{number}").leave()
        eventually(lambda: "sessions that alice had left behind" in caplog.text)
        eventually(lambda: not Leaver(broker, "left-0").leave())
    assert Leaver(broker, "left-19").leave(), "the last ones are kept"


def test_given_a_user_with_too_many_connections_then_the_newest_end_and_others_go_on(
    mosquitto: None,
    broker: EmbeddedBroker,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    eventually: Eventually,
) -> None:
    monkeypatch.setattr(bounds, "CONNECTIONS", 3)
    bob = connect("bob")
    with caplog.at_level(logging.WARNING, "icebus.broker.logins"):
        opened = [Leaver(broker, f"many-{number}") for number in range(6)]
        eventually(lambda: all(each.gone.is_set() for each in opened[3:]))
        long = Leaver(broker, "x" * 2000)
        eventually(long.gone.is_set)
        # Each is said once it has been done.
        eventually(lambda: "alice has more than" in caplog.text)
        eventually(lambda: "client id is longer" in caplog.text)
    assert not any(each.gone.is_set() for each in opened[:3])
    assert bob.connected
    for each in [*opened, long]:
        each.leave()


def test_given_a_connection_that_does_not_say_who_it_is_then_it_is_ended(
    mosquitto: None, broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icebus.broker.logins.allowances.LOGIN_TIME", 0.5)
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", broker.port)) as silent:
        for _ in range(3):  # failures beside it, which the log can't tell from it
            with socket.create_connection(("127.0.0.1", broker.port)) as other:
                other.sendall(b"not MQTT")
        silent.settimeout(30)
        assert silent.recv(1) == b""
    assert time.monotonic() - began < 60, "Mosquitto itself would have waited longer"
