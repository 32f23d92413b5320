"""What tests of the bus share: connections that close themselves, and waiting without sleeping."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest

from icebus.broker.embedded import EmbeddedBroker
from icebus.bus._bus import Bus
from icebus.bus._messages import Incoming, Will
from icebus.schemas.deadline import Deadline


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
