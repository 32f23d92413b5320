"""The traps of MQTT and paho that the bus is there to avoid, on a real Mosquitto."""

from __future__ import annotations

import queue
import signal
import socket
import statistics
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from icebus.broker.embedded import MAX_PACKET, EmbeddedBroker, free_port
from icebus.bus import _bus as bus_module
from icebus.bus._bus import ASSUMED_MAXIMUM, HEADER_ALLOWANCE, Bus, wait
from icebus.bus._messages import Incoming, Will, publish_properties
from icebus.bus._subscriptions import Subscription
from icebus.schemas.components import ClientState, Presence
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import (
    BrokerUnavailable,
    DeadlineExceeded,
    MessageTooLarge,
    NotAuthorized,
)
from icebus.schemas.topics import (
    CLIENT_STATE,
    DESIRED,
    DEVICE,
    OPERATION,
    REPLY,
    WORKER_EVENT,
    Topic,
)

SOON = 10.0


def soon() -> Deadline:
    return Deadline.after(SOON)


def subscribed(bus: Bus, topic: Topic, handler: Any, **ids: str) -> Subscription:
    subscription = bus.subscribe(topic, handler, **ids)
    wait(subscription.acknowledged, soon(), "subscription")
    return subscription


def published(bus: Bus, topic: str, payload: bytes, **options: Any) -> None:
    wait(bus.publish(topic, payload, **options), soon(), "publish")


def cut(bus: Bus) -> None:
    """End the TCP connection under the client's feet, as a network does."""
    connection = bus._client.socket()
    assert isinstance(connection, socket.socket)
    connection.shutdown(socket.SHUT_RDWR)


# --- speed --------------------------------------------------------------------------------------


def test_when_connected_then_our_socket_does_not_wait_to_fill_segments(connect: Any) -> None:
    connection = connect("alice")._client.socket()
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_when_reconnected_then_the_new_socket_does_not_wait_either(
    connect: Any, eventually: Any
) -> None:
    bus = connect("alice")
    first = bus._client.socket()
    cut(bus)
    eventually(lambda: bus.connected and bus._client.socket() is not first)
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
        user.publish(OPERATION(user="alice", operation="list"), str(number).encode())
        assert answered.get(timeout=SOON) == str(number).encode()
        took.append(time.perf_counter() - began)
    # The kernel acknowledges the first segments of a connection at once.
    assert statistics.median(took[20:]) < 0.02


# --- threads ------------------------------------------------------------------------------------


def test_when_a_handler_blocks_longer_than_the_keepalive_then_the_client_stays(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "KEEPALIVE", 1)
    lost = threading.Event()
    watcher, bus = connect("main"), connect("alice", will=will("alice", "lost"))
    subscribed(watcher, CLIENT_STATE, lambda _m: lost.set(), user="alice")
    entered, release = threading.Event(), threading.Event()

    def block(_incoming: Incoming) -> None:
        entered.set()
        release.wait(SOON)

    subscribed(bus, DEVICE, block)
    published(connect("w1"), DEVICE(worker="w1", serial="a"), b"x")
    assert entered.wait(SOON)
    assert not lost.wait(2.0), "the broker fired the will of a client that only was busy"
    release.set()
    assert bus.connected


def test_when_a_handler_raises_then_the_next_message_comes_all_the_same(
    connect: Any, inbox: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bus, worker, kept = connect("alice"), connect("w1"), inbox()

    def fail(_incoming: Incoming) -> None:
        raise RuntimeError("a bug of ours")

    def refuse(_incoming: Incoming) -> None:
        raise MessageTooLarge("a message we do not like")

    subscribed(bus, DEVICE, fail)
    subscribed(bus, DEVICE, refuse)
    subscribed(bus, DEVICE, kept)
    for serial in ("a", "b"):
        published(worker, DEVICE(worker="w1", serial=serial), serial.encode())
    kept.wait(2)
    assert kept.payloads == [b"a", b"b"]
    assert bus.connected
    assert "a bug of ours" in caplog.text
    assert "a message we do not like" in caplog.text


def test_when_a_deferred_step_raises_then_later_ones_and_timers_run(connect: Any) -> None:
    bus = connect("alice")
    ran: queue.SimpleQueue[str] = queue.SimpleQueue()

    def fail() -> None:
        raise RuntimeError("a bug of ours")

    bus.defer(fail)
    bus.call_later(0.1, lambda: ran.put("later"))
    bus.call_later(0.05, lambda: ran.put("sooner"))
    bus.defer(lambda: ran.put("now"))
    assert [ran.get(timeout=SOON) for _ in range(3)] == ["now", "sooner", "later"]


def test_when_one_connect_callback_raises_then_the_others_run(connect: Any) -> None:
    bus = connect("alice")
    ran = threading.Event()

    def fail() -> None:
        raise RuntimeError("a bug of ours")

    bus.on_connected(fail)
    bus.on_connected(lambda: None)
    cut(bus)
    bus.on_connected(ran.set)
    assert ran.wait(SOON)


def test_given_an_endless_flow_of_steps_then_timers_are_not_starved(connect: Any) -> None:
    bus = connect("alice")
    done = threading.Event()

    def again() -> None:
        if not done.is_set():
            bus.defer(again)

    again()
    bus.call_later(0.02, done.set)
    assert done.wait(SOON)


# --- closing ------------------------------------------------------------------------------------


def test_when_closed_right_after_500_publishes_then_all_arrive(connect: Any, inbox: Any) -> None:
    kept, sender = inbox(), connect("w1")
    subscribed(connect("main"), WORKER_EVENT, kept)
    for number in range(500):
        sender.publish(WORKER_EVENT(worker="w1"), str(number).encode())
    sender.close(soon())
    kept.wait(500)
    assert kept.payloads == [str(number).encode() for number in range(500)]


def test_when_closed_with_a_farewell_then_it_is_the_last_word_and_no_will_fires(
    connect: Any, inbox: Any
) -> None:
    kept = inbox()
    subscribed(connect("main"), CLIENT_STATE, kept)
    bus = connect("alice", will=will("alice", "lost"))
    published(bus, will("alice", "online").topic, b"online", retain=True)
    bus.close(soon(), farewell=will("alice", "offline"))
    kept.wait(2)
    late = inbox()
    subscribed(connect("main"), CLIENT_STATE, late)
    late.wait(1)
    assert [b"lost" in payload for payload in kept.payloads + late.payloads] == [False] * 3
    assert b"offline" in late.payloads[0]


def test_when_killed_then_the_will_fires(connect: Any, inbox: Any) -> None:
    kept = inbox()
    subscribed(connect("main"), CLIENT_STATE, kept)
    bus = connect("alice", will=will("alice", "lost"), session_expiry=0)
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
        published(bus, OPERATION(user="alice", operation="list"), b"x")


def test_when_closed_without_a_broker_then_outstanding_publishes_fail(
    broker: EmbeddedBroker, connect: Any, eventually: Any
) -> None:
    bus = connect("alice")
    broker.child.process.kill()
    eventually(lambda: not bus.connected)
    waiting = bus.publish(OPERATION(user="alice", operation="list"), b"x")
    lost = bus.publish(OPERATION(user="alice", operation="list"), b"x", qos=0)
    bus.close(Deadline.after(1))
    for future in (waiting, lost):
        assert isinstance(future.exception(timeout=1), BrokerUnavailable)


# --- staying ------------------------------------------------------------------------------------


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
    away = writer.publish(WORKER_EVENT(worker="w1"), b"published while away", expiry=60)
    broker.start(soon())
    eventually(lambda: reader.connected and len(connects) == 2)
    wait(away, soon(), "the message published while away")
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
        writer.publish(DEVICE(worker="w1", serial=f"s{number}"), b"state", retain=True)
        for number in range(50)
    ]
    broker.start(soon())
    subscribed(connect("main"), DEVICE, kept)
    for future in futures:
        wait(future, soon(), "publish")
    eventually(lambda: len({message.topic for message in kept.messages}) == 50)


def test_when_a_reader_blinks_then_it_gets_what_was_sent_meanwhile(
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


# --- refusals -----------------------------------------------------------------------------------


def test_when_a_message_is_too_large_then_it_is_refused_before_it_is_sent(connect: Any) -> None:
    bus = connect("alice")
    topic = OPERATION(user="alice", operation="list")
    with pytest.raises(MessageTooLarge) as caught:
        bus.publish(topic, bytes(MAX_PACKET))
    assert caught.value.details["limit"] < MAX_PACKET
    published(bus, topic, bytes(MAX_PACKET - HEADER_ALLOWANCE))
    assert bus.connected


def test_when_not_yet_connected_then_a_message_too_large_is_refused_too(
    broker: EmbeddedBroker,
) -> None:
    bus = Bus(broker.address("alice"), "alice")
    with pytest.raises(MessageTooLarge):
        bus.publish(OPERATION(user="alice", operation="list"), bytes(ASSUMED_MAXIMUM))


def test_when_the_access_list_refuses_a_topic_then_the_future_says_so(connect: Any) -> None:
    with pytest.raises(NotAuthorized):
        published(connect("alice"), DESIRED(worker="w1", serial="a"), b"{}")


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
    assert time.monotonic() - began < 5
    assert password not in caught.value.message or not password
    assert not bus.connected


def test_when_nothing_listens_then_the_error_names_the_remedy(broker: EmbeddedBroker) -> None:
    address = type(broker.address("alice"))("127.0.0.1", free_port(), "alice", "x")
    with pytest.raises(BrokerUnavailable, match="icebus up"):
        Bus(address, "alice").connect(Deadline.after(0.3))


def test_when_something_else_listens_then_connecting_ends_at_its_deadline(
    broker: EmbeddedBroker,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = type(broker.address("alice"))("127.0.0.1", mute.getsockname()[1], "alice", "x")
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="MQTT 5"):
            Bus(address, "alice").connect(Deadline.after(0.3))
        assert time.monotonic() - began < 5


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
        done.wait(SOON)

    thread = threading.Thread(target=restart)
    thread.start()
    bus.connect(soon())
    assert bus.connected
    bus.close(soon())
    done.set()
    thread.join()


# --- subscriptions ------------------------------------------------------------------------------


def test_given_overlapping_filters_then_each_handler_is_called_once(
    connect: Any, inbox: Any
) -> None:
    reader, writer = connect("main"), connect("w1")
    wide, narrow, same = inbox(), inbox(), inbox()
    subscribed(reader, DEVICE, wide)
    subscribed(reader, DEVICE, narrow, worker="w1")
    subscribed(reader, DEVICE, same, worker="w1")
    for number in range(20):
        published(writer, DEVICE(worker="w1", serial="a"), str(number).encode())
    expected = [str(number).encode() for number in range(20)]
    for kept in (wide, narrow, same):
        kept.wait(20)
        barrier(reader)
        assert kept.payloads == expected


def test_when_one_of_two_handlers_is_cancelled_then_the_other_stays(
    connect: Any, inbox: Any
) -> None:
    reader, writer, going, staying = connect("main"), connect("w1"), inbox(), inbox()
    cancelled = subscribed(reader, DEVICE, going)
    subscribed(reader, DEVICE, staying)
    cancelled.cancel()
    cancelled.cancel()
    published(writer, DEVICE(worker="w1", serial="a"), b"x")
    staying.wait(1)
    assert going.messages == []


def test_when_the_last_handler_is_cancelled_then_the_broker_sends_no_more(
    connect: Any, inbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer, kept, other = connect("main"), connect("w1"), inbox(), inbox()
    subscribed(reader, DEVICE, kept).cancel()
    subscribed(reader, WORKER_EVENT, other)
    delivered: list[str] = []
    deliver = reader._deliver

    def spy(message: Any) -> None:
        delivered.append(message.topic)
        deliver(message)

    monkeypatch.setattr(reader, "_deliver", spy)
    published(writer, DEVICE(worker="w1", serial="a"), b"x")
    published(writer, WORKER_EVENT(worker="w1"), b"y")
    other.wait(1)
    assert kept.messages == []
    assert len(delivered) == 1


def test_when_subscribed_again_after_a_cancel_then_messages_come_once(
    connect: Any, inbox: Any
) -> None:
    reader, writer, kept = connect("main"), connect("w1"), inbox()
    subscribed(reader, DEVICE, inbox()).cancel()
    subscribed(reader, DEVICE, kept)
    published(writer, DEVICE(worker="w1", serial="a"), b"x")
    kept.wait(1)
    barrier(reader)
    assert kept.payloads == [b"x"]


def test_given_retained_messages_then_a_subscriber_has_each_once_and_knows_they_are_old(
    broker: EmbeddedBroker, connect: Any, inbox: Any
) -> None:
    writer, kept = connect("w1"), inbox()
    for serial in ("a", "b"):
        published(writer, DEVICE(worker="w1", serial=serial), b"x", retain=True)
    bus = Bus(broker.address("main"), "main")
    before = bus.subscribe(DEVICE, kept)
    bus.connect(soon())
    wait(before.acknowledged, soon(), "subscription")
    kept.wait(2)
    barrier(bus)
    published(writer, DEVICE(worker="w1", serial="c"), b"y", retain=True)
    kept.wait(3)
    assert [(m.ids["serial"], m.retained) for m in kept.messages] == [
        ("a", True),
        ("b", True),
        ("c", False),
    ]
    bus.close(soon())


def test_given_a_shared_subscription_then_exactly_one_member_gets_each_message(
    connect: Any, inbox: Any
) -> None:
    members, kept = [connect("main", session_expiry=0) for _ in range(2)], inbox()
    for member in members:
        subscribed(member, OPERATION, kept, shared="$share/control/")
    user = connect("alice")
    sent = [str(number).encode() for number in range(100)]
    for payload in sent:
        published(user, OPERATION(user="alice", operation="list"), payload)
    kept.wait(100)
    for member in members:
        barrier(member)
    assert sorted(kept.payloads) == sorted(sent)


def test_given_a_malformed_topic_then_it_is_ignored(connect: Any, inbox: Any) -> None:
    reader, writer, kept = connect("main"), connect("w1"), inbox()
    subscribed(reader, DEVICE, kept)
    wait(writer.publish("worker/w1/device/not an id", b"x"), soon(), "publish")
    published(writer, DEVICE(worker="w1", serial="a"), b"y")
    kept.wait(1)
    assert kept.payloads == [b"y"]


# --- what a message carries ---------------------------------------------------------------------


def test_when_sent_with_properties_then_they_arrive(connect: Any, inbox: Any) -> None:
    control, user, kept = connect("main"), connect("alice"), inbox()
    subscribed(control, OPERATION, kept)
    published(
        user,
        OPERATION(user="alice", operation="list"),
        b"{}",
        response_topic="user/alice/client/c/reply/control",
        correlation=b"\0\xff",
        properties={"encoding": "zlib"},
    )
    [incoming] = kept.wait(1)
    assert incoming.ids == {"user": "alice", "operation": "list"}
    assert incoming.response_topic == "user/alice/client/c/reply/control"
    assert incoming.correlation == b"\0\xff"
    assert incoming.properties == {"encoding": "zlib"}


@pytest.mark.parametrize(
    ("seconds", "interval"),
    [(0.0, 1), (0.2, 1), (1.0, 1), (1.2, 2), (3600.0, 3600), (-5.0, 1)],
)
def test_given_an_expiry_then_it_is_whole_seconds_and_never_for_ever(
    connect: Any, monkeypatch: pytest.MonkeyPatch, seconds: float, interval: int
) -> None:
    bus = connect("alice")
    sent: list[Any] = []
    publish = bus._client.publish

    def spy(*args: Any, **kwargs: Any) -> Any:
        sent.append(kwargs["properties"])
        return publish(*args, **kwargs)

    monkeypatch.setattr(bus._client, "publish", spy)
    published(bus, OPERATION(user="alice", operation="list"), b"{}", expiry=seconds)
    read = Properties(PacketTypes.PUBLISH)
    read.unpack(sent[0].pack())
    assert getattr(read, "MessageExpiryInterval") == interval  # noqa: B009


def test_when_a_message_has_expired_then_nobody_gets_it(
    connect: Any, inbox: Any, eventually: Any
) -> None:
    writer = connect("w1")
    published(writer, DEVICE(worker="w1", serial="short"), b"x", retain=True, expiry=0.1)
    published(writer, DEVICE(worker="w1", serial="long"), b"x", retain=True, expiry=60)

    def only_long_left() -> bool:
        kept = inbox()
        reader = connect("main")
        subscribed(reader, DEVICE, kept)
        kept.wait(1)
        barrier(reader)
        return {m.ids["serial"] for m in kept.messages} == {"long"}

    eventually(only_long_left)


def test_when_waiting_on_a_future_too_long_then_the_deadline_is_named(connect: Any) -> None:
    subscription = Bus(connect("alice").address, "x").subscribe(DEVICE, lambda _m: None)
    with pytest.raises(DeadlineExceeded, match="the broker"):
        wait(subscription.acknowledged, Deadline.after(0.01), "the broker")


def barrier(bus: Bus) -> None:
    """Return when all that the broker had sent before is in the handlers' hands."""
    passed = threading.Event()
    subscription = bus.subscribe(CLIENT_STATE, lambda _m: None, user="barrier")
    wait(subscription.acknowledged, soon(), "subscription")
    subscription.cancel()
    bus.defer(passed.set)
    assert passed.wait(SOON)


def will(client: str, state: str) -> Will:
    said = ClientState(state=Presence(state), session="s1")
    return Will(CLIENT_STATE(user=client, client="c1"), said)


@given(
    expiry=st.none() | st.floats(-10, 2**31),
    topic=st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=200),
    correlation=st.none() | st.binary(max_size=300),
    user=st.dictionaries(st.text("abcé", max_size=20), st.text("xyz☃", max_size=20), max_size=3),
)
def test_given_any_properties_then_paho_reads_what_we_have_packed(
    expiry: float | None, topic: str | None, correlation: bytes | None, user: dict[str, str]
) -> None:
    packed = publish_properties(expiry, topic, correlation, user).pack()
    read = Properties(PacketTypes.PUBLISH)
    _, size = read.unpack(packed)
    assert size == len(packed)
    assert getattr(read, "ResponseTopic", None) == topic
    assert getattr(read, "CorrelationData", None) == correlation
    assert dict(getattr(read, "UserProperty", ())) == user
    assert hasattr(read, "MessageExpiryInterval") == (expiry is not None)
