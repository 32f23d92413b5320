"""A control on a broker whose database is there, and refuses: what is told, and that it heals."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import event
from sqlmodel import SQLModel
from tests.control.states import States

from icebus.broker.embedded import EmbeddedBroker
from icebus.control.server import Control
from icebus.control.settings import Settings
from icebus.control.store.database import Database
from icebus.schemas.database import DatabaseCause
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import DatabaseUnavailable, IcebusError

if TYPE_CHECKING:
    from tests.control.conftest import MakeWorker
    from tests.control.fakes import FakeClient
    from tests.postgresql import PostgresServer

SETTINGS = Settings(interval=1.0, grace=20.0)

on_postgresql = pytest.mark.parametrize("backend", ["postgresql"])
on_sqlite = pytest.mark.parametrize("backend", ["sqlite"])

MANY = 300
"""Requests, each of which writes some rows: far more than a page has room for."""


class Pragma:
    """What is said to SQLite before each of control's transactions."""

    def __init__(self, database: Database) -> None:
        self.text = "PRAGMA user_version"
        event.listen(database.engine, "checkout", self._on_checkout)

    def _on_checkout(self, connection: Any, *_: object) -> None:
        connection.execute(self.text).fetchall()


@contextmanager
def running(broker: EmbeddedBroker, database: Database, name: str = "main") -> Iterator[Control]:
    control = Control(broker.address(name), database, SETTINGS)
    control.start(Deadline.after(20))
    try:
        yield control
    finally:
        control.stop(Deadline.after(10))


def administer(server: PostgresServer, *statements: str, database: str = "postgres") -> None:
    with psycopg.connect(
        host=str(server.directory), user="icebus", dbname=database, autocommit=True
    ) as connection:
        for each in statements:
            connection.execute(each.encode())


def end_connections(name: str) -> str:
    """A statement that has whoever uses a database connect anew."""
    return f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"


def name_of(url: str) -> str:
    return url.split("?")[0].split("/")[-1]


def reserve_until_refused(client: FakeClient) -> DatabaseUnavailable:
    for _ in range(MANY):
        try:
            made = client.reserve(count=1)
            client.end(made.id)
        except DatabaseUnavailable as error:
            return error
        except IcebusError:
            # The device has not come back from the last one yet.
            continue
    raise AssertionError("there is always room")


@on_sqlite
@pytest.mark.parametrize(
    ("refusing", "serving", "cause"),
    [
        ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000", DatabaseCause.FULL),
        ("PRAGMA query_only = 1", "PRAGMA query_only = 0", DatabaseCause.READ_ONLY),
    ],
)
def test_given_a_file_that_takes_nothing_then_that_is_told_and_what_is_held_stays(
    broker: EmbeddedBroker,
    database_url: str,
    make_worker: MakeWorker,
    alice: FakeClient,
    refusing: str,
    serving: str,
    cause: DatabaseCause,
) -> None:
    database = Database(database_url)
    pragma = Pragma(database)
    with running(broker, database):
        states = States(alice)
        worker = make_worker("w1", "a", "b")
        alice.wait_available(2)
        made = alice.reserve(serials=["b"])
        states.wait_well()

        pragma.text = refusing
        refused = reserve_until_refused(alice)
        states.wait_away(cause)
        pragma.text = serving
        states.wait_well()
        alice.extend(made.id, 120)

        assert "icebus doctor" in refused.message
        worker.wait_desired("b", lambda desired: desired.reservation == made.id)
        assert made.id in {each.id for each in alice.list()}
        assert alice.count("device_failed") == 0


@on_sqlite
def test_given_a_disk_without_room_for_a_process_then_it_goes_on_and_serves_when_there_is(
    broker: EmbeddedBroker, database_url: str, make_worker: MakeWorker, alice: FakeClient
) -> None:
    states = States(alice)
    with ExitStack() as stack:
        process = subprocess.Popen(
            [sys.executable, "-m", "icebus.control.cli", "--log-level", "error"],
            env={
                "ICEBUS_BROKER": broker.address("main").url(),
                "ICEBUS_DATABASE": database_url,
                "PATH": "",
            },
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        states.wait_well()
        make_worker("w1", "a")
        alice.wait_available(1)
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)

        # No file of its may be written beyond there, as if nothing were left.
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, hard))
        states.wait_away(DatabaseCause.DISK, DatabaseCause.FULL)
        with pytest.raises(DatabaseUnavailable):
            alice.reserve(count=1)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        states.wait_well()

        assert alice.reserve_when_back(count=1).devices[0].serial == "a"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@on_postgresql
@pytest.mark.usefixtures("control")
@pytest.mark.parametrize("control_settings", [SETTINGS])
def test_given_a_server_that_became_a_standby_then_that_is_told_until_it_is_none(
    postgresql: PostgresServer, database_url: str, make_worker: MakeWorker, alice: FakeClient
) -> None:
    name = name_of(database_url)
    states = States(alice)
    make_worker("w1", "a")
    alice.wait_available(1)

    read_only = f'ALTER DATABASE "{name}" SET default_transaction_read_only = '
    administer(postgresql, read_only + "on", end_connections(name))
    states.wait_away(DatabaseCause.READ_ONLY)
    administer(postgresql, read_only + "off", end_connections(name))
    states.wait_well()

    assert alice.reserve_when_back(count=1).devices[0].serial == "a"


FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
END $$
"""
EXECUTE = "EXECUTE FUNCTION full_disk()"


@on_postgresql
@pytest.mark.usefixtures("control")
@pytest.mark.parametrize("control_settings", [SETTINGS])
def test_given_a_server_whose_disk_is_full_then_that_is_told_until_there_is_room(
    postgresql: PostgresServer, database_url: str, make_worker: MakeWorker, alice: FakeClient
) -> None:
    name = name_of(database_url)
    tables = sorted(SQLModel.metadata.tables)
    # One after the other: control locks them in an order of its own.
    fill = f"CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON {{}} {EXECUTE}"
    administer(postgresql, FULL, database=name)
    states = States(alice)
    worker = make_worker("w1", "a", "b")
    alice.wait_available(2)
    made = alice.reserve(serials=["b"])
    states.wait_well()

    administer(postgresql, *map(fill.format, tables), database=name)
    states.wait_away(DatabaseCause.FULL)
    with pytest.raises(DatabaseUnavailable, match="no room"):
        alice.reserve(serials=["a"])
    administer(postgresql, *map("DROP TRIGGER full_disk ON {}".format, tables), database=name)
    states.wait_well()

    assert alice.reserve_when_back(serials=["a"]).devices[0].serial == "a"
    worker.wait_desired("b", lambda desired: desired.reservation == made.id)


@on_postgresql
def test_given_a_password_that_was_changed_then_that_is_told_until_it_is_right_again(
    broker: EmbeddedBroker,
    postgresql: PostgresServer,
    database_url: str,
    make_worker: MakeWorker,
    alice: FakeClient,
) -> None:
    name = name_of(database_url)
    role = f"keyed_{name}"
    asked = postgresql.directory / "data" / "pg_hba.conf"
    others = asked.read_text()
    asked.write_text(f"local {name} {role} scram-sha-256\n{others}")
    password = f"ALTER ROLE {role} PASSWORD '{{}}'"
    administer(
        postgresql,
        f"CREATE ROLE {role} LOGIN SUPERUSER",
        password.format("old"),
        "SELECT pg_reload_conf()",
    )
    try:
        url = database_url.replace("//icebus@", f"//{role}:old@")
        with running(broker, Database(url)):
            states = States(alice)
            make_worker("w1", "a")
            alice.wait_available(1)

            administer(postgresql, password.format("new"), end_connections(name))
            states.wait_away(DatabaseCause.UNREACHABLE)
            with pytest.raises(DatabaseUnavailable) as refused:
                alice.reserve(count=1)
            administer(postgresql, password.format("old"))
            states.wait_well()

            assert alice.reserve_when_back(count=1).devices[0].serial == "a"
        assert "old" not in str(refused.value)
    finally:
        asked.write_text(others)
        administer(postgresql, end_connections(name), f"DROP ROLE {role}")


@on_sqlite
def test_given_a_folder_that_may_not_be_written_then_control_says_so_at_once(
    broker: EmbeddedBroker, backend: str
) -> None:
    del backend
    database = Database("sqlite:////proc/icebus.db")
    control = Control(broker.address("main"), database, SETTINGS)

    with pytest.raises(IcebusError, match="may write"):
        control.start(Deadline.after(10))
