"""Retained messages that users leave are cleared by the broker's service."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from icebus.broker.access import Principal
from icebus.broker.directory import BrokerDirectory
from icebus.broker.embedded import EmbeddedBroker
from icebus.broker.service import writers
from icebus.broker.service.bars import Bars
from icebus.broker.service.retained import RetainedGuard
from icebus.broker.service.writers import CLIENTS_OF_USER
from icebus.schemas.deadline import Deadline
from icebus.schemas.ids import BROKER
from icebus.schemas.topics import DEVICE, DEVICE_LOG, Role

WITHIN = 10.0


@pytest.fixture
def guard(broker: EmbeddedBroker) -> Iterator[RetainedGuard]:
    broker.add_principals([Principal(id="mallory", role=Role.ADMIN)])
    broker.add_principals([Principal(id="lab9", role=Role.WORKER)])
    files = BrokerDirectory(broker.directory)
    bars = Bars(files, broker.logins)
    made = RetainedGuard(broker.address(BROKER), files, bars, interval=0.05)
    yield made
    made.stop(Deadline.after(WITHIN))


def publish(
    broker: EmbeddedBroker, messages: list[tuple[str, bytes]], who: str = "mallory"
) -> None:
    address = broker.address(who)
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.username_pw_set(who, address.password)
    client.connect(address.host, address.port)
    client.loop_start()
    for topic, payload in messages:
        client.publish(f"{address.root}/{topic}", payload, qos=1, retain=True).wait_for_publish(9)
    client.disconnect()
    client.loop_stop()


def kept(broker: EmbeddedBroker) -> list[str]:
    """What the broker retains under the root."""
    address = broker.address(BROKER)
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.username_pw_set(BROKER, address.password)
    found: list[str] = []
    client.on_message = lambda _c, _u, message: found.append(message.topic)
    client.connect(address.host, address.port)
    done: list[bool] = []

    def ask(*_: object) -> None:
        client.subscribe(f"{address.root}/#")

    def leave(*_: object) -> None:
        client.unsubscribe(f"{address.root}/#")

    client.on_connect, client.on_subscribe = ask, leave
    client.on_unsubscribe = lambda *_: done.append(True)
    deadline = Deadline.after(WITHIN)
    while not done and not deadline.expired:
        client.loop(0.1)
    client.disconnect()
    assert done
    return found


def test_given_retained_messages_where_none_may_be_then_they_are_cleared_and_said_once(
    broker: EmbeddedBroker,
    guard: RetainedGuard,
    eventually: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    topics = [
        *(f"worker/lab9/blob/mallory/{number:064}" for number in range(5)),
        "worker/nobody/call/mallory/evaluate",
        "worker/no such worker/call/mallory/ä b",
        "worker//blob/mallory/",
        "control/call/mallory/reserve",
        "admin/mallory/quarantine",
        "broker/call/mallory/passwd",
    ]
    publish(broker, [(topic, b"x" * 1000) for topic in topics])
    assert len(kept(broker)) >= len(topics)
    with caplog.at_level(logging.WARNING):
        guard.start()
        eventually(lambda: not [each for each in kept(broker) if "mallory" in each])
        wanted = "cleared 6 retained messages of mallory on worker/{worker}/blob"
        eventually(lambda: wanted in "\n".join(caplog.messages))
    assert len(caplog.messages) <= len(topics)


def test_given_states_of_more_clients_than_a_user_may_have_then_the_rest_is_cleared(
    broker: EmbeddedBroker, guard: RetainedGuard, eventually: Any
) -> None:
    small = [(f"user/mallory/client/c{n}/state", b"{}") for n in range(CLIENTS_OF_USER + 50)]
    publish(broker, [*small, ("user/mallory/client/big/state", b"x" * 100_000)])
    guard.start()

    def bounded() -> bool:
        left = kept(broker)
        return len(left) <= CLIENTS_OF_USER and not [each for each in left if "/big/" in each]

    eventually(bounded)


def test_given_what_the_contract_keeps_then_it_stays(
    broker: EmbeddedBroker, guard: RetainedGuard, eventually: Any
) -> None:
    publish(broker, [("user/mallory/client/c1/state", b"{}"), ("admin/mallory/x", b"{}")])
    guard.start()
    eventually(lambda: not [each for each in kept(broker) if "/admin/" in each])
    assert [each for each in kept(broker) if each.endswith("/client/c1/state")]


def test_given_reports_on_more_devices_than_a_worker_may_have_then_the_rest_is_cleared(
    broker: EmbeddedBroker,
    guard: RetainedGuard,
    eventually: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(writers.COUNTED, DEVICE.template, (5, 1000))
    reports = [(f"worker/lab9/device/D{number}", b"{}") for number in range(20)]
    publish(broker, [*reports, ("worker/lab9/device/BIG", b"x" * 1001)], who="lab9")
    publish(broker, [("worker/lab9/state", b"{}")], who="lab9")
    guard.start()

    def bounded() -> bool:
        left = [each for each in kept(broker) if "/device/" in each]
        return len(left) == 5 and not [each for each in left if each.endswith("/BIG")]

    eventually(bounded)
    assert [each for each in kept(broker) if each.endswith("/lab9/state")]


def test_given_logs_that_a_stolen_worker_has_kept_then_they_are_bounded_in_number_and_size(
    broker: EmbeddedBroker,
    guard: RetainedGuard,
    eventually: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(writers.COUNTED, DEVICE_LOG.template, (5, 1000))
    of_users = [(f"user/u{n}/reservation/r{n}/log/lab9/D1", b"{}") for n in range(20)]
    lines = [("log/worker/lab9/warning", b"{}"), ("log/worker/lab9", b"x" * (33 << 10))]
    publish(broker, [*of_users, *lines], who="lab9")
    guard.start()

    def bounded() -> bool:
        left = [each for each in kept(broker) if "lab9" in each]
        return len(left) == 5 and all("/reservation/" in each for each in left)

    eventually(bounded)
