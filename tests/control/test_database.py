"""The database: that its migrations make what its tables say, and what it guarantees by itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, StatementError
from sqlmodel import SQLModel, select

from icebus.control.store.database import MIGRATIONS, Database
from icebus.control.store.tables import DeviceRow, HoldRow, ReservationRow
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.operations.reservations import EndReason, HoldState, ReservationState

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def database(empty_database_url: str) -> Iterator[Database]:
    made = Database(empty_database_url)
    made.migrate()
    yield made
    made.close()


def reservation(name: str, **fields: Any) -> ReservationRow:
    values: dict[str, Any] = {
        "state": ReservationState.ACTIVE,
        "created": NOON,
        "until": NOON,
        **fields,
    }
    return ReservationRow(id=name, user="alice", kind="pulsecount", **values)


def hold(name: str, state: HoldState) -> HoldRow:
    return HoldRow(reservation=name, serial="a", worker="w1", state=state)


def test_when_migrated_then_the_database_is_what_the_tables_say(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )

        assert compare_metadata(context, SQLModel.metadata) == []


def test_given_a_migrated_database_when_migrated_again_then_nothing_changes(
    database: Database,
) -> None:
    with database.transaction() as session:
        session.add(reservation("r"))

    database.migrate()

    with database.transaction() as session:
        assert session.exec(select(ReservationRow.id)).all() == ["r"]


def test_given_a_database_of_an_older_version_when_migrated_then_absent_clients_stay_absent(
    database: Database,
) -> None:
    with database.transaction() as session:
        session.add(reservation("r", client="c", absent_since=NOON))
    older = Config()
    older.set_main_option("script_location", str(MIGRATIONS))
    with database.engine.begin() as connection:
        older.attributes["connection"] = connection
        command.downgrade(older, "0004")

    database.migrate()

    with database.transaction() as session:
        assert session.exec(select(ReservationRow.absent_since)).all() == [NOON]


@pytest.mark.parametrize("backend", ["sqlite"])
def test_given_a_file_of_an_older_version_when_migrated_then_it_can_give_room_back(
    database: Database, empty_database_url: str
) -> None:
    with database.transaction() as session:
        session.add(reservation("r"))
    database.close()
    path = empty_database_url.removeprefix("sqlite:///")
    with sqlite3.connect(path, isolation_level=None) as older:
        older.execute("PRAGMA auto_vacuum = NONE")
        older.execute("PRAGMA journal_mode = DELETE")
        older.execute("VACUUM")
        before = older.execute("PRAGMA auto_vacuum").fetchone()
    older.close()

    database.migrate()

    with database.engine.begin() as connection:
        after = connection.exec_driver_sql("PRAGMA auto_vacuum").scalar()
    with database.transaction() as session:
        assert session.exec(select(ReservationRow.id)).all() == ["r"]
    assert (before, after) == ((0,), 2)


def test_given_a_database_of_the_version_before_when_migrated_then_what_it_holds_is_kept(
    database: Database,
) -> None:
    with database.transaction() as session:
        session.add(DeviceRow(serial="a", worker="w1", report={}))
        session.add_all([reservation("r"), reservation("s", state=ReservationState.ENDED)])
        session.flush()
        session.add(hold("r", HoldState.SERVING))
    older = Config()
    older.set_main_option("script_location", str(MIGRATIONS))
    with database.engine.begin() as connection:
        older.attributes["connection"] = connection
        command.downgrade(older, "0013")

    database.migrate()

    with database.transaction() as session:
        assert set(session.exec(select(ReservationRow.id))) == {"r", "s"}
        session.add(reservation("t"))
    with pytest.raises(IntegrityError), database.transaction() as session:
        session.add(hold("t", HoldState.PREPARING))


def test_given_a_newer_database_when_migrated_then_the_error_says_so(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(InvalidRequest, match="another version"):
        database.migrate()


def test_given_a_live_hold_when_the_device_is_held_again_then_the_database_refuses(
    database: Database,
) -> None:
    with database.transaction() as session:
        session.add(DeviceRow(serial="a", worker="w1", report={}))
        session.add_all([reservation("first"), reservation("second"), reservation("third")])
        session.flush()
        session.add(hold("first", HoldState.RELEASED))
        session.add(hold("second", HoldState.FAILED))

    with pytest.raises(IntegrityError), database.transaction() as session:
        session.add(hold("third", HoldState.PREPARING))


def test_when_a_transaction_raises_then_nothing_of_it_is_kept(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as session:
            session.add(reservation("r"))
            session.flush()
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError):
        fail()

    with database.transaction() as session:
        assert session.exec(select(ReservationRow)).all() == []


def test_when_stored_then_moments_and_names_come_back_as_they_were(database: Database) -> None:
    elsewhere = NOON.astimezone(timezone(timedelta(hours=5)))
    with database.transaction() as session:
        session.add(
            reservation(
                "r", until=elsewhere, state=ReservationState.ENDED, reason=EndReason.EXPIRED
            )
        )

    with database.transaction() as session:
        found = session.exec(select(ReservationRow)).one()

    assert (found.until, found.until.tzinfo) == (NOON, UTC)
    assert found.state is ReservationState.ENDED
    assert found.reason is EndReason.EXPIRED


def test_when_a_moment_without_zone_is_stored_then_it_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="time zone"), database.transaction() as session:
        session.add(reservation("r", until=datetime(2030, 1, 1)))  # noqa: DTZ001


def test_given_a_device_that_does_not_exist_then_it_cannot_be_held(database: Database) -> None:
    def take() -> None:
        with database.transaction() as session:
            session.add(reservation("r"))
            session.flush()
            session.add(hold("r", HoldState.PREPARING))

    with pytest.raises(IntegrityError):
        take()


@pytest.mark.parametrize(
    "url", ["nonsense", "oracle+nothing://x", "postgresql+psycopg2://u:p@localhost/x"]
)
def test_given_a_url_that_cannot_work_then_the_error_names_the_remedy(url: str) -> None:
    with pytest.raises(InvalidRequest, match=r"sqlite:////|pip install"):
        Database(url)


def test_given_a_file_that_is_no_database_then_the_error_is_typed(tmp_path: Path) -> None:
    (tmp_path / "control.db").write_bytes(b"this is not a database, whatever its name" * 100)
    database = Database(f"sqlite:///{tmp_path / 'control.db'}")

    with pytest.raises(InvalidRequest, match="check that it exists"):
        database.migrate()
    database.close()


@pytest.mark.parametrize("name", ["control.db", "control.db-wal"])
def test_given_a_link_in_a_folder_that_others_write_to_then_it_is_not_followed(
    tmp_path: Path, name: str
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (shared / name).symlink_to(tmp_path / "victim")
    with pytest.raises(InvalidRequest, match="is a link"):
        Database(f"sqlite:///{shared}/control.db")
    assert not (tmp_path / "victim").exists()
    shared.chmod(0o700)
    Database(f"sqlite:///{shared}/control.db")
