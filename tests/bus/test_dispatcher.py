"""The dispatcher: handlers that block or fail keep nothing else from happening."""

from __future__ import annotations

import queue
import threading
from typing import Any

import pytest
from tests.connections import cut, published, subscribed

from icebus.bus import Incoming, Will
from icebus.bus._connection import first_connection
from icebus.schemas.components import WorkerPhase, WorkerState
from icebus.schemas.errors import MessageTooLarge
from icebus.schemas.topics import DEVICE, WORKER_STATE


def test_when_a_handler_blocks_longer_than_the_keepalive_then_the_client_stays(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_connection, "KEEPALIVE", 1)
    lost = threading.Event()
    will = Will(WORKER_STATE(worker="w1"), WorkerState(state=WorkerPhase.LOST, session="s1"))
    watcher, bus = connect("main"), connect("w1", will=will)
    subscribed(watcher, WORKER_STATE, lambda _m: lost.set())
    entered, release = threading.Event(), threading.Event()

    def block(_incoming: Incoming) -> None:
        entered.set()
        release.wait(10)

    subscribed(bus, DEVICE, block)
    published(connect("w1"), DEVICE(worker="w1", serial="a"), b"x")
    assert entered.wait(10)
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

    bus.call_soon(fail)
    bus.call_later(0.1, lambda: ran.put("later"))
    bus.call_later(0.05, lambda: ran.put("sooner"))
    bus.call_soon(lambda: ran.put("now"))
    assert [ran.get(timeout=10) for _ in range(3)] == ["now", "sooner", "later"]


def test_when_one_connect_callback_raises_then_the_others_run(connect: Any) -> None:
    bus = connect("alice")
    ran = threading.Event()

    def fail() -> None:
        raise RuntimeError("a bug of ours")

    bus.on_connected(fail)
    bus.on_connected(lambda: None)
    cut(bus)
    bus.on_connected(ran.set)
    assert ran.wait(10)


def test_given_an_endless_flow_of_steps_then_timers_are_not_starved(connect: Any) -> None:
    bus = connect("alice")
    done = threading.Event()

    def again() -> None:
        if not done.is_set():
            bus.call_soon(again)

    again()
    bus.call_later(0.02, done.set)
    assert done.wait(10)
