"""A control on a broker whose database goes away, in each way that a database can."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.control.states import States

from icebus.broker.embedded import EmbeddedBroker
from icebus.control.server import Control
from icebus.control.settings import Settings
from icebus.control.store import watchdog
from icebus.control.store.database import Database
from icebus.schemas.database import DatabaseCause
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import DatabaseUnavailable, InvalidRequest

if TYPE_CHECKING:
    from tests.control.conftest import MakeWorker
    from tests.control.fakes import FakeClient
    from tests.postgresql import PostgresServer

SETTINGS = Settings(interval=1.0, grace=20.0)

on_postgresql = pytest.mark.parametrize("backend", ["postgresql"])
on_sqlite = pytest.mark.parametrize("backend", ["sqlite"])
with_grace = pytest.mark.parametrize("control_settings", [SETTINGS])


@contextmanager
def frozen(server: PostgresServer) -> Iterator[None]:
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little time for a server that does not answer."""
    monkeypatch.setattr(watchdog, "OVERDUE", 0.5)
    monkeypatch.setattr(watchdog, "DEADLINE", 1.5)
    monkeypatch.setattr(watchdog, "TICK", 0.1)


@on_postgresql
@with_grace
@pytest.mark.usefixtures("quick", "control")
def test_given_a_server_that_stands_still_then_it_is_told_and_heartbeats_go_on(
    postgresql: PostgresServer, make_worker: MakeWorker, alice: FakeClient
) -> None:
    worker = make_worker("w1", "a", "b")
    alice.wait_available(2)
    made = alice.reserve(serials=["a"])
    states = States(alice)
    states.wait_well()

    with frozen(postgresql):
        states.wait_away(DatabaseCause.SILENT)
        states.wait_away(DatabaseCause.UNREACHABLE)
        with pytest.raises(DatabaseUnavailable, match="nothing was done"):
            alice.reserve(serials=["b"])
        while not alice.heartbeats.empty():
            alice.heartbeats.get()
        beats = [alice.heartbeats.get(timeout=5) for _ in range(3)]
    states.wait_well()
    again = alice.reserve_when_back(serials=["b"])

    assert all(beat.database is not None for beat in beats)
    worker.wait_desired("b", lambda desired: desired.reservation == again.id)
    assert [each.id for each in alice.list()] == [made.id, again.id]
    assert alice.count("device_failed") == 0


@on_postgresql
@with_grace
@pytest.mark.usefixtures("control")
def test_given_a_server_without_room_for_connections_when_there_is_then_it_heals(
    postgresql: PostgresServer, make_worker: MakeWorker, alice: FakeClient, database_url: str
) -> None:
    make_worker("w1", "a")
    alice.wait_available(1)
    states = States(alice)
    states.wait_well()
    name = database_url.split("?")[0].split("/")[-1]

    def admit(number: int) -> None:
        with psycopg.connect(
            host=str(postgresql.directory), user="icebus", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT {number}'.encode())
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {number != 0}'.encode())
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )

    admit(0)
    states.wait_away(DatabaseCause.UNREACHABLE)
    admit(-1)
    states.wait_well()

    assert alice.reserve_when_back(count=1).devices[0].serial == "a"


@on_sqlite
@with_grace
@pytest.mark.usefixtures("control")
@pytest.mark.parametrize("suffixes", [("",), ("-wal",), ("", "-wal", "-shm")])
def test_given_a_file_that_is_deleted_then_it_is_written_back_and_nothing_is_lost(
    make_worker: MakeWorker, alice: FakeClient, database_url: str, suffixes: tuple[str, ...]
) -> None:
    path = Path(database_url.removeprefix("sqlite:///"))
    make_worker("w1", "a", "b")
    alice.wait_available(2)
    made = alice.reserve(serials=["a"])

    for suffix in suffixes:
        path.with_name(path.name + suffix).unlink()
    again = alice.reserve_when_back(serials=["b"])

    with sqlite3.connect(path) as connection:
        found = {row[0] for row in connection.execute("SELECT id FROM reservations")}
    assert found == {made.id, again.id}


@on_sqlite
@with_grace
@pytest.mark.usefixtures("control")
def test_given_another_program_that_locks_the_file_then_that_is_told_until_it_ends(
    make_worker: MakeWorker, alice: FakeClient, database_url: str
) -> None:
    path = Path(database_url.removeprefix("sqlite:///"))
    make_worker("w1", "a")
    alice.wait_available(1)
    states = States(alice)
    states.wait_well()

    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    states.wait_away(DatabaseCause.LOCKED)
    other.execute("ROLLBACK")
    other.close()
    states.wait_well()

    assert alice.reserve_when_back(count=1).devices[0].serial == "a"


@on_postgresql
def test_given_a_server_that_starts_later_then_control_waits_and_says_so(
    broker: EmbeddedBroker,
    postgresql: PostgresServer,
    empty_database_url: str,
    make_worker: MakeWorker,
    alice: FakeClient,
) -> None:
    states = States(alice)
    make_worker("w1", "a")
    control = Control(broker.address("main"), Database(empty_database_url), SETTINGS)
    said: list[str] = []
    starting = threading.Thread(target=control.start, args=[Deadline.after(20), said.append])

    postgresql.stop()
    try:
        starting.start()
        states.wait_away(DatabaseCause.UNREACHABLE)
    finally:
        postgresql.start()
    starting.join(30)
    states.wait_well()
    alice.wait_available(1)
    control.stop(Deadline.after(5))

    assert not starting.is_alive()
    assert said[0] == "the database can't be connected to"


@on_sqlite
def test_given_a_file_that_is_no_database_then_control_does_not_wait_for_it(
    broker: EmbeddedBroker, tmp_path: Path, backend: str
) -> None:
    del backend
    path = tmp_path / "control.db"
    path.write_bytes(b"this is not a database, whatever its name" * 100)
    control = Control(broker.address("main"), Database(f"sqlite:///{path}"), SETTINGS)

    with pytest.raises(InvalidRequest, match="can't open the database"):
        control.start(Deadline.after(10))
