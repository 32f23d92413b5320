"""Messages that are published together wake the network's thread once, and all arrive."""

from __future__ import annotations

import socket
import threading
from typing import Any

from tests.connections import barrier, soon, subscribed

from icebus.bus._connection.together import Waking
from icebus.schemas.topics import DESIRED, OPERATION

TOPIC = OPERATION(user="alice", operation="list")


class Counting:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> int:
        self.sent.append(data)
        return len(data)


def test_given_a_block_then_the_thread_is_woken_at_its_end_and_once() -> None:
    connection = Counting()
    waking = Waking(connection)
    waking.put_off()
    waking.put_off()
    assert [waking.send(b"0"), waking.send(b"0")] == [1, 1]
    waking.catch_up()
    assert connection.sent == [], "the outer block goes on"
    waking.catch_up()
    assert connection.sent == [b"0"]
    waking.put_off()
    waking.catch_up()
    assert connection.sent == [b"0"], "nothing was published"
    waking.send(b"1")
    assert connection.sent == [b"0", b"1"]


def test_given_a_block_of_one_thread_then_others_wake_at_once() -> None:
    connection = Counting()
    waking = Waking(connection)
    waking.put_off()
    other = threading.Thread(target=lambda: waking.send(b"0"))
    other.start()
    other.join()
    assert connection.sent == [b"0"]


def test_given_a_connection_that_is_full_or_closed_at_the_end_then_nothing_is_raised() -> None:
    there, here = socket.socketpair()
    waking = Waking(here)
    waking.put_off()
    waking.send(b"0")
    here.close()
    there.close()
    waking.catch_up()


def test_given_messages_of_a_block_then_all_arrive_in_order(connect: Any, inbox: Any) -> None:
    bus, kept = connect("alice"), inbox()
    subscribed(connect("main"), OPERATION, kept)
    with bus.together(), bus.together():
        sent = [bus.publish(TOPIC, str(number).encode(), deadline=soon()) for number in range(100)]
    for each in sent:
        each.result(timeout=5)
    kept.wait(100)
    assert [int(message.payload) for message in kept.messages] == list(range(100))


def test_given_a_block_after_the_bus_was_closed_then_what_is_published_fails(connect: Any) -> None:
    bus = connect("alice")
    bus.close(soon())
    with bus.together():
        assert bus.publish(TOPIC, b"{}", deadline=soon()).exception(timeout=5) is not None


def test_given_a_subscription_to_others_then_ones_own_are_not_heard(
    connect: Any, inbox: Any
) -> None:
    main, kept, all_heard = connect("main"), inbox(), inbox()
    main.subscribe_to_others(DESIRED, kept).acknowledged.result(timeout=5)
    subscribed(connect("main"), DESIRED, all_heard)
    topic = DESIRED(worker="w1", serial="S1")
    main.publish(topic, b"1").result(timeout=5)
    connect("main").publish(topic, b"2").result(timeout=5)
    all_heard.wait(2)
    kept.wait(1)
    barrier(main)
    assert [message.payload for message in kept.messages] == [b"2"]
