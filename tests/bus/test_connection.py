"""Connecting, closing and coming back, on a real Mosquitto: the traps of MQTT and paho."""

from __future__ import annotations

import queue
import signal
import socket
import statistics
import threading
import time
from typing import Any

import pytest
from tests.connections import cut, published, soon, subscribed

from icebus.broker.embedded import EmbeddedBroker, free_port
from icebus.bus import Bus, Will, wait_for
from icebus.schemas.components import ClientState, Presence
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BrokerUnavailable, NotAuthorized
from icebus.schemas.topics import (
    CLIENT_STATE,
    CONTROL_HEARTBEAT,
    DEVICE,
    OPERATION,
    REPLY,
    WORKER_EVENT,
    WORKER_HEARTBEAT,
)

LIST = OPERATION(user="alice", operation="list")


STATE = CLIENT_STATE(user="alice", client="c1")
WILL = Will(STATE, ClientState(state=Presence.LOST, session="s1"), interval=20)


# --- speed ----------------------------------------------------------------------------------------


def test_when_connected_then_our_socket_does_not_wait_to_fill_segments(connect: Any) -> None:
    connection = connect("alice")._client.socket()
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_when_reconnected_then_the_new_socket_does_not_wait_either(
    connect: Any, eventually: Any
) -> None:
    bus = connect("alice")
    first = bus._client.socket()
    cut(bus)
    eventually(lambda: bus.connected and bus._client.socket() not in (first, None))
    assert bus._client.socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_given_qos_1_both_ways_then_a_round_trip_is_free_of_delayed_acknowledgements(
    connect: Any,
) -> None:
    # Without TCP_NODELAY at the broker the answer waits until the kernel has acknowledged the
    # broker's own acknowledgement, which takes it 40 ms.
    user, control = connect("alice"), connect("main")
    reply = REPLY(user="alice", client="c1", sender="control")
    answered: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    subscribed(control, OPERATION, lambda m: control.publish(reply, m.payload))
    subscribed(user, REPLY, lambda m: answered.put(m.payload), user="alice")
    took = []
    for number in range(60):
        began = time.perf_counter()
        user.publish(LIST, str(number).encode(), deadline=soon())
        assert answered.get(timeout=10) == str(number).encode()
        took.append(time.perf_counter() - began)
    # The kernel acknowledges the first segments of a connection at once.
    assert statistics.median(took[20:]) < 0.02


# --- connecting -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "password"), [("alice", "wrong"), ("nobody", "secret"), ("alice", "")]
)
def test_when_the_password_is_wrong_then_connecting_fails_quickly(
    broker: EmbeddedBroker, user: str, password: str
) -> None:
    bus = Bus(broker.address("alice").as_user(user, password), "alice")
    began = time.monotonic()
    with pytest.raises(NotAuthorized, match=f"'{user}'") as caught:
        bus.connect(Deadline.after(30))
    assert time.monotonic() - began < 15
    assert password not in caught.value.message or not password
    assert not bus.connected


def test_when_nothing_listens_then_the_error_names_the_remedy(broker: EmbeddedBroker) -> None:
    address = type(broker.address("alice"))("127.0.0.1", free_port(), "alice", "x")
    with pytest.raises(BrokerUnavailable, match="ask whoever runs the farm on this machine"):
        Bus(address, "alice").connect(Deadline.after(0.3))


def test_when_something_else_listens_then_connecting_ends_at_its_deadline(
    broker: EmbeddedBroker,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = type(broker.address("alice"))("127.0.0.1", mute.getsockname()[1], "alice", "x")
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="MQTT 5"):
            Bus(address, "alice").connect(Deadline.after(0.3))
        assert time.monotonic() - began < 15


def test_when_the_broker_comes_up_late_then_connecting_waits_for_it(
    broker: EmbeddedBroker,
) -> None:
    broker.stop(soon())
    bus = Bus(broker.address("alice"), "alice")
    done = threading.Event()

    def restart() -> None:
        done.wait(0.3)
        broker.start(soon())
        # The kernel ends Mosquitto with the thread that started it.
        done.wait(10)

    thread = threading.Thread(target=restart)
    thread.start()
    bus.connect(soon())
    assert bus.connected
    bus.close(soon())
    done.set()
    thread.join()


# --- closing --------------------------------------------------------------------------------------


def test_when_closed_right_after_500_publishes_then_all_arrive(connect: Any, inbox: Any) -> None:
    kept, sender = inbox(), connect("w1")
    subscribed(connect("main"), WORKER_EVENT, kept)
    for number in range(500):
        sender.publish(WORKER_EVENT(worker="w1"), str(number).encode())
    sender.close(soon())
    kept.wait(500)
    assert kept.payloads == [str(number).encode() for number in range(500)]


def test_when_closed_after_a_last_state_then_it_stands_and_no_will_is_published(
    connect: Any, inbox: Any
) -> None:
    kept = inbox()
    subscribed(connect("main"), CLIENT_STATE, kept)
    bus = connect("alice", will=WILL)
    for state in (b"online", b"offline"):
        bus.publish(STATE, state, interval=20)
    bus.close(soon())
    kept.wait(2)
    late = inbox()
    subscribed(connect("main"), CLIENT_STATE, late)
    late.wait(1)
    assert [b"lost" in payload for payload in kept.payloads + late.payloads] == [False] * 3
    assert b"offline" in late.payloads[0]


@pytest.mark.parametrize("attempt", range(3))
def test_given_messages_not_read_yet_when_closed_then_no_will_is_published(
    connect: Any, inbox: Any, eventually: Any, attempt: int
) -> None:
    main, kept = connect("main"), inbox()
    subscribed(main, CLIENT_STATE, kept)
    bus = connect("alice", will=WILL)
    subscribed(bus, CONTROL_HEARTBEAT, inbox())
    closing, reading = threading.Thread(target=bus.close, args=[soon()]), threading.Event()
    bus._client.receive = lambda *_: reading.wait(10)  # more than the socket's buffer holds
    for _ in range(40):
        published(main, CONTROL_HEARTBEAT(), bytes(500_000), interval=1)
    closing.start()
    eventually(lambda: bool(bus._client._out_packet))
    reading.set()
    closing.join(10)
    late = inbox()
    subscribed(connect("main"), CLIENT_STATE, late)
    assert kept.payloads + late.payloads == []


def test_when_killed_then_the_will_fires(connect: Any, inbox: Any) -> None:
    kept = inbox()
    subscribed(connect("main"), CLIENT_STATE, kept)
    bus = connect("alice", will=WILL, session_expiry=0)
    # A client whose process is killed comes not back, so this one must not either.
    bus._client._thread_terminate = True
    cut(bus)
    kept.wait(1)
    assert b"lost" in kept.payloads[0]


def test_when_published_after_close_then_the_future_fails_at_once(connect: Any) -> None:
    bus = connect("alice")
    bus.close(soon())
    bus.close(soon())
    with pytest.raises(BrokerUnavailable, match="closed"):
        published(bus, LIST, b"x", deadline=soon())


def test_when_closed_without_a_broker_then_outstanding_publishes_fail(
    broker: EmbeddedBroker, connect: Any, eventually: Any
) -> None:
    bus = connect("w1")
    broker.child.process.kill()
    eventually(lambda: not bus.connected)
    waiting = bus.publish(DEVICE(worker="w1", serial="a"), b"x")
    lost = bus.publish(WORKER_HEARTBEAT(worker="w1"), b"x", interval=1)
    bus.close(Deadline.after(1))
    for future in (waiting, lost):
        assert isinstance(future.exception(timeout=1), BrokerUnavailable)


# --- staying --------------------------------------------------------------------------------------


def test_when_the_broker_is_killed_and_restarted_then_subscriptions_are_made_again(
    broker: EmbeddedBroker, connect: Any, inbox: Any, eventually: Any
) -> None:
    kept, connects = inbox(), []
    reader, writer = connect("main"), connect("w1")
    reader.on_connected(lambda: connects.append(1))
    subscribed(reader, WORKER_EVENT, kept)
    eventually(lambda: len(connects) == 1)
    broker.child.process.send_signal(signal.SIGKILL)
    broker.child.process.wait()
    eventually(lambda: not (reader.connected or writer.connected))
    away = writer.publish(WORKER_EVENT(worker="w1"), b"published while away")
    broker.start(soon())
    eventually(lambda: reader.connected and len(connects) == 2)
    wait_for(away, soon(), "the message published while away")
    published(writer, WORKER_EVENT(worker="w1"), b"after")
    eventually(lambda: b"after" in kept.payloads)


def test_when_the_writer_reconnects_then_what_it_published_while_away_is_delivered(
    broker: EmbeddedBroker, connect: Any, inbox: Any, eventually: Any
) -> None:
    writer, kept = connect("w1"), inbox()
    broker.child.process.send_signal(signal.SIGKILL)
    broker.child.process.wait()
    eventually(lambda: not writer.connected)
    futures = [
        writer.publish(DEVICE(worker="w1", serial=f"s{number}"), b"state") for number in range(50)
    ]
    broker.start(soon())
    subscribed(connect("main"), DEVICE, kept)
    for future in futures:
        wait_for(future, soon(), "publish")
    eventually(lambda: len({message.topic for message in kept.messages}) == 50)


def test_when_a_subscriber_reconnects_then_it_gets_what_was_sent_meanwhile(
    connect: Any, inbox: Any, eventually: Any
) -> None:
    reader, writer, kept = connect("main"), connect("w1"), inbox()
    subscribed(reader, WORKER_EVENT, kept)
    cut(reader)
    eventually(lambda: not reader.connected)
    for number in range(100):
        published(writer, WORKER_EVENT(worker="w1"), str(number).encode())
    eventually(lambda: {str(n).encode() for n in range(100)} <= set(kept.payloads))
    assert reader.connected


def test_given_two_buses_of_one_name_then_neither_kicks_the_other(connect: Any, inbox: Any) -> None:
    first, second, kept = connect("alice"), connect("alice"), inbox()
    assert first.client_id != second.client_id
    subscribed(first, DEVICE, kept)
    subscribed(second, DEVICE, kept)
    published(connect("w1"), DEVICE(worker="w1", serial="a"), b"x")
    kept.wait(2)
    assert first.connected
    assert second.connected


def test_given_an_unruly_name_then_the_client_id_is_still_an_id(broker: EmbeddedBroker) -> None:
    bus = Bus(broker.address("alice"), "Älice's / #notebook+")
    bus.connect(soon())
    bus.close(soon())
