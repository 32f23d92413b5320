"""Fixtures of the tests of the broker."""

import threading
from collections.abc import Iterator

import pytest
from tests.connections import connect, eventually, inbox

from icebus.broker.cli.running import StandingBroker
from icebus.broker.directory import BrokerDirectory

__all__ = ["connect", "eventually", "inbox"]


@pytest.fixture
def standing(files: BrokerDirectory) -> Iterator[StandingBroker]:
    """The broker of the module's directory ``files``, run as ``icebus-broker run`` does."""
    running = StandingBroker(files)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def minded(standing: StandingBroker) -> Iterator[StandingBroker]:
    """The same, looked after all the time."""
    stop = threading.Event()

    def mind() -> None:
        while not stop.wait(0.02):
            standing.check()

    minding = threading.Thread(target=mind, name="minds-mosquitto")
    minding.start()
    yield standing
    stop.set()
    minding.join(20)
