"""What only PostgreSQL can do to control: meet itself, and go away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from sqlmodel import col, select, update

from icebus.control.runner import TransactionRunner
from icebus.control.server import Control
from icebus.control.settings import Settings
from icebus.control.store.database import Database
from icebus.control.store.lease import Lease
from icebus.control.store.tables import DeviceRow
from icebus.control.transaction import Transaction
from icebus.control.watch.clients import Clients
from icebus.control.watch.roster import Roster
from icebus.control.watch.workers import Workers
from icebus.schemas.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from tests.control.conftest import MakeWorker
    from tests.control.fakes import FakeClient
    from tests.postgresql import PostgresServer


@pytest.fixture
def backend() -> str:
    return "postgresql"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    yield made
    made.close()


def transactions(database: Database) -> TransactionRunner:
    workers = Workers(interval=1.0)
    lease = Lease(database, "epoch", interval=1.0)
    return TransactionRunner(
        database, lease, workers, Clients(), Roster("main"), Settings(), lambda _: None
    )


def count_up(database: Database) -> None:
    with database.transaction() as session:
        session.execute(update(DeviceRow).values(generation=col(DeviceRow.generation) + 1))


def test_given_two_transactions_that_meet_then_the_loser_decides_anew(database: Database) -> None:
    with database.transaction() as session:
        session.add(DeviceRow(serial="a", worker="w1", report={}))
    seen: list[int] = []

    def step(transaction: Transaction) -> None:
        [device] = transaction.session.exec(select(DeviceRow)).all()
        seen.append(device.generation)
        if len(seen) == 1:
            count_up(database)
        device.generation += 10

    transactions(database).run(step)

    with database.transaction() as session:
        assert seen == [0, 1]
        assert session.exec(select(DeviceRow.generation)).one() == 11


def test_given_a_plain_url_then_it_is_our_driver_and_an_isolation_that_refuses_anomalies(
    database: Database,
) -> None:
    assert database.engine.driver == "psycopg"
    with database.transaction() as session:
        isolation: Any = session.connection().exec_driver_sql("SHOW transaction_isolation")
        assert isolation.scalar() == "serializable"


def test_given_a_url_without_user_then_the_system_says_who_we_are(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands in docs/deploy.md for a PostgreSQL on the same machine."""
    monkeypatch.setenv("PGUSER", "icebus")
    database = Database(database_url.replace("icebus@", ""))

    database.migrate()

    database.close()


def test_given_a_url_that_says_otherwise_then_our_own_wishes_give_way(database_url: str) -> None:
    database = Database(f"{database_url}&application_name=other&connect_timeout=9")

    with database.transaction() as session:
        name: Any = session.connection().exec_driver_sql("SHOW application_name")
        assert name.scalar() == "other"
    database.close()


@pytest.mark.parametrize("control_settings", [Settings(interval=1.0, grace=5.0)])
def test_given_a_server_that_goes_away_when_it_is_back_then_control_goes_on(
    control: Control,
    postgresql: PostgresServer,
    make_worker: MakeWorker,
    alice: FakeClient,
) -> None:
    worker = make_worker("w1", "a", "b")
    alice.wait_available(2)
    made = alice.reserve(serials=["a"])
    worker.wait_desired("a", lambda desired: desired.reservation == made.id)

    postgresql.stop()
    try:
        with pytest.raises(DatabaseUnavailable, match="can't be connected to"):
            alice.reserve(serials=["b"])
        while not alice.heartbeats.empty():
            alice.heartbeats.get()
        alice.heartbeats.get(timeout=10)
    finally:
        postgresql.start()
    again = alice.reserve_when_back(serials=["b"])

    worker.wait_desired("b", lambda desired: desired.reservation == again.id)
    assert [each.id for each in alice.list()] == [made.id, again.id]
