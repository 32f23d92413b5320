"""Dashboards that serve, and brokers that say only what they are told to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.connections import connect
from tests.dashboard.scripted_broker import ScriptedBroker

from icebus.broker.embedded import EmbeddedBroker
from icebus.bus import BrokerAddress
from icebus.client.dashboard.settings import Settings
from icebus.client.dashboard.sign_in import Link
from icebus.client.dashboard.starting import Dashboard
from icebus.schemas.deadline import Deadline

__all__ = ["connect"]

Serve = Callable[..., Dashboard]


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dashboards say in files that they run: each test has a folder of its own for them."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts dashboards on free ports, and stops them in the end."""
    with contextlib.ExitStack() as stack:

        def start(
            address: BrokerAddress,
            settings: Settings | None = None,
            link: Link = Link.SIGN_IN,
            find_account: Callable[[], BrokerAddress] | None = None,
        ) -> Dashboard:
            made = Dashboard(
                address, settings or Settings(port=0), "lab", link, find_account=find_account
            )
            made.start(Deadline.after(10))
            stack.callback(lambda: made.stop(Deadline.after(10)))
            return made

        yield start


@pytest.fixture
def dashboard(serve: Serve, broker: EmbeddedBroker) -> Dashboard:
    """One for a real broker, run by alice."""
    return serve(broker.address("alice"))


@pytest.fixture
def scripted() -> Iterator[ScriptedBroker]:
    """What takes connections as a broker does, and is no broker."""
    made = ScriptedBroker()
    yield made
    made.close()
