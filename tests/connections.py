"""Fixtures for the bus and the broker: connections that close themselves, and what they hear."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest

from icebus.broker.embedded import EmbeddedBroker
from icebus.bus import Bus, Incoming, Subscription, Will, wait_for
from icebus.schemas.deadline import Deadline
from icebus.schemas.topics import CLIENT_STATE, Topic, TopicName


def soon() -> Deadline:
    """When all that a test does on a broker of its own has happened, on any machine."""
    return Deadline.after(10)


def subscribed(bus: Bus, topic: Topic, handler: Any, **ids: str) -> Subscription:
    """Subscribe, and return when the broker has acknowledged."""
    subscription = bus.subscribe(topic, handler, **ids)
    wait_for(subscription.acknowledged, soon(), "the broker")
    return subscription


def published(bus: Bus, topic: TopicName, payload: bytes, **options: Any) -> None:
    """Publish, and return when the broker has acknowledged."""
    wait_for(bus.publish(topic, payload, **options), soon(), "the broker")


def cut(bus: Bus) -> None:
    """End the TCP connection under the client's feet, as a network does."""
    connection = bus._client.socket()
    assert isinstance(connection, socket.socket)
    connection.shutdown(socket.SHUT_RDWR)


def barrier(bus: Bus) -> None:
    """Return when all that the broker had sent before is in the handlers' hands."""
    passed = threading.Event()
    subscription = bus.subscribe(CLIENT_STATE, lambda _m: None, user="barrier")
    wait_for(subscription.acknowledged, soon(), "the broker")
    subscription.cancel()

    def pass_on() -> None:
        # What users have sent has its turns between the others.
        bus.call_soon(passed.set if bus._dispatcher.users.idle else pass_on)

    bus.call_soon(pass_on)
    assert passed.wait(10)


class Connect(Protocol):
    def __call__(
        self, principal: str, *, will: Will | None = None, session_expiry: int = 300
    ) -> Bus: ...


@pytest.fixture
def connect(broker: EmbeddedBroker) -> Iterator[Connect]:
    """Connects a principal of ``PEOPLE`` to the broker; closed at the end."""
    buses: list[Bus] = []

    def make(principal: str, *, will: Will | None = None, session_expiry: int = 300) -> Bus:
        bus = Bus(broker.address(principal), principal, will=will, session_expiry=session_expiry)
        buses.append(bus)
        bus.connect(Deadline.after(10))
        return bus

    yield make
    for bus in buses:
        bus.close(Deadline.after(0.1))


class Inbox:
    """A handler that keeps what it gets."""

    def __init__(self) -> None:
        self._messages: list[Incoming] = []
        self._changed = threading.Condition()

    def __call__(self, incoming: Incoming) -> None:
        with self._changed:
            self._messages.append(incoming)
            self._changed.notify_all()

    @property
    def messages(self) -> list[Incoming]:
        with self._changed:
            return list(self._messages)

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.messages]

    def wait(self, count: int, seconds: float = 10) -> list[Incoming]:
        """The messages once there are ``count`` of them."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: len(self._messages) >= count, seconds)
            assert arrived, f"{len(self._messages)} of {count} messages came"
            return list(self._messages)


@pytest.fixture
def inbox() -> Callable[[], Inbox]:
    return Inbox


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Waits until something holds, and fails when it does not within ten seconds."""

    def check(holds: Callable[[], bool]) -> None:
        deadline = Deadline.after(10)
        while not holds():
            assert not deadline.expired, "it did not come true in time"
            time.sleep(0.005)

    return check
