"""A control on a real broker and a real database, with workers and clients around it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
from tests.control.fakes import TIMEOUT, FakeClient, FakeWorker
from tests.control.harness import Harness

from icebus.broker.embedded import EmbeddedBroker
from icebus.control.server import Control
from icebus.control.settings import Settings
from icebus.control.store.database import Database
from icebus.schemas.deadline import Deadline

if TYPE_CHECKING:
    from tests.postgresql import PostgresServer

SETTINGS = Settings(interval=1.0, grace=0.6, max_duration=7200.0)
"""On a busy machine a thread of ours stands still for as long as three shorter heartbeats take."""


class MakeWorker(Protocol):
    def __call__(self, name: str, *serials: str) -> FakeWorker: ...


class MakeClient(Protocol):
    def __call__(self, user: str) -> FakeClient: ...


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file that is ready to be copied."""
    path = tmp_path_factory.mktemp("database") / "control.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()
    return path


@pytest.fixture(scope="session")
def migrated_template(postgresql: PostgresServer) -> str:
    """The name of a database that is ready to be copied."""
    name = postgresql.create()
    database = Database(postgresql.url(name))
    database.migrate()
    database.close()
    return name


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    """The kind of database: whoever asks for one is run on each."""
    kind: str = request.param
    return kind


@pytest.fixture
def empty_database_url(
    backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[str]:
    """A database without tables."""
    if backend == "sqlite":
        yield f"sqlite:///{tmp_path / 'deep' / 'control.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgresql")
    name = server.create()
    yield server.url(name)
    server.drop(name)


@pytest.fixture
def database_url(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A migrated database."""
    if backend == "sqlite":
        yield f"sqlite:///{shutil.copy(request.getfixturevalue('migrated'), tmp_path)}"
        return
    server: PostgresServer = request.getfixturevalue("postgresql")
    name = server.create(request.getfixturevalue("migrated_template"))
    yield server.url(name)
    server.drop(name)


def without_idle_timeout(url: str) -> str:
    """A database that waits for whoever stands still: a test on a busy machine, tried once."""
    if url.startswith("sqlite"):
        return url
    return f"{url}&options=-c%20idle_in_transaction_session_timeout%3D0"


@pytest.fixture
def harness(database_url: str) -> Iterator[Harness]:
    """Control's operations on a real database, without a broker."""
    database = Database(without_idle_timeout(database_url))
    yield Harness(database)
    database.close()


@pytest.fixture
def control_settings() -> Settings:
    """Little grace for clients; parametrize a test that needs others."""
    return SETTINGS


@pytest.fixture
def control(
    broker: EmbeddedBroker, database_url: str, control_settings: Settings
) -> Iterator[Control]:
    """A running control."""
    running = Control(broker.address("main"), Database(database_url), control_settings)
    running.start(Deadline.after(TIMEOUT))
    yield running
    running.stop(Deadline.after(5))
    assert not running._thread.is_alive()


@pytest.fixture
def make_worker(broker: EmbeddedBroker) -> Iterator[MakeWorker]:
    """Starts workers with ready devices, and stops them."""
    running: list[FakeWorker] = []

    def make(name: str, *serials: str) -> FakeWorker:
        worker = FakeWorker(broker.address(name), list(serials))
        running.append(worker)
        worker.start()
        return worker

    yield make
    for worker in running:
        worker.stop()


@pytest.fixture
def make_client(broker: EmbeddedBroker) -> Iterator[MakeClient]:
    """Starts clients, and stops them."""
    running: list[FakeClient] = []

    def make(user: str) -> FakeClient:
        client = FakeClient(broker.address(user))
        running.append(client)
        return client.start()

    yield make
    for client in running:
        client.stop()


@pytest.fixture
def alice(make_client: MakeClient) -> FakeClient:
    return make_client("alice")
