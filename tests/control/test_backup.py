"""Backups of control's database: saved while it is used, checked, and put back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import inspect, text
from sqlmodel import Session, delete, select
from tests.postgresql import PostgresServer

from bench.postgresql import programs
from icebus.control.store import backup
from icebus.control.store.database import Database
from icebus.control.store.lease import Lease
from icebus.control.store.tables import DeviceRow
from icebus.schemas.errors import Conflict, InvalidRequest, ProgramMissing


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'control.db'}"
    server: PostgresServer = request.getfixturevalue("postgresql")
    return server.url(server.create())


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """PostgreSQL's programs where the server's are."""
    if "postgresql" in str(request.node.name):
        found = programs()
        assert found is not None
        monkeypatch.setenv("PATH", f"{found}:/usr/bin:/bin")


def generations(url: str) -> list[int]:
    database = Database(url)
    with Session(database.engine) as session:
        found = list(session.exec(select(DeviceRow.generation)))
    database.close()
    return found


def known_rows(url: str) -> int:
    """How many devices PostgreSQL reckons with; -1 if it has never looked."""
    database = Database(url)
    query = text("SELECT reltuples FROM pg_class WHERE relname = 'devices'")
    with Session(database.engine) as session:
        found = session.connection().scalar(query)
    database.close()
    return int(found)


def test_given_a_database_in_use_when_saved_then_it_comes_back_as_it_was(
    url: str, tmp_path: Path
) -> None:
    database = Database(url)
    database.migrate()
    with database.transaction() as session:
        session.add(DeviceRow(serial="a", worker="w1", generation=7, report={}))

    saved = backup.save(url, tmp_path / "backups", 3)

    assert backup.check(saved.path).size == saved.size > 0
    assert saved.path.stat().st_mode & 0o777 == 0o600
    assert saved.path.parent.stat().st_mode & 0o777 == 0o700
    with database.transaction() as session:
        session.execute(delete(DeviceRow))
    database.close()

    backup.restore(saved.path, url)

    assert generations(url) == [7]
    if url.startswith("postgresql"):
        assert known_rows(url) == 1, "a dump has no statistics"


def test_given_tables_that_a_later_version_added_when_an_older_backup_is_restored_then_they_go(
    url: str, tmp_path: Path
) -> None:
    database = Database(url)
    database.migrate()
    saved = backup.save(url, tmp_path / "backups", 3)
    with database.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE later (id INTEGER, serial VARCHAR REFERENCES devices (serial))"
        )
    database.close()

    backup.restore(saved.path, url)

    database = Database(url)
    database.migrate()
    assert "later" not in inspect(database.engine).get_table_names()
    database.close()


def test_given_a_restore_that_fails_half_way_then_the_tables_stay(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: PostgresServer = request.getfixturevalue("postgresql")
    found = programs()
    assert found is not None
    monkeypatch.setenv("PATH", f"{found}:/usr/bin:/bin")
    url = server.url(server.create())
    database = Database(url)
    database.migrate()
    with database.transaction() as session:
        session.add(DeviceRow(serial="a", worker="w1", generation=7, report={}))
    saved = backup.save(url, tmp_path / "backups", 3)
    with database.engine.begin() as connection:
        # Its name is taken by what is no table, and so is not dropped.
        connection.exec_driver_sql("ALTER TABLE devices RENAME TO others")
        connection.exec_driver_sql("CREATE VIEW devices AS SELECT 1 AS one")
    database.close()

    with pytest.raises(InvalidRequest, match="psql failed"):
        backup.restore(saved.path, url)

    database = Database(url)
    assert "others" in inspect(database.engine).get_table_names()
    database.close()


def test_given_a_control_that_leads_then_nothing_is_put_in_the_place_of_its_database(
    url: str, tmp_path: Path
) -> None:
    database = Database(url)
    database.migrate()
    saved = backup.save(url, tmp_path / "backups", 3)
    lease = Lease(database, "s1", 60.0)
    assert lease.acquire()[0]

    with pytest.raises(Conflict, match="stop all controls"):
        backup.restore(saved.path, url)

    lease.release()
    backup.restore(saved.path, url)
    database.close()


def test_given_many_backups_then_the_newest_stay_and_nothing_else_is_touched(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path / 'control.db'}"
    database = Database(url)
    database.migrate()
    folder = tmp_path / "backups"
    folder.mkdir()
    (folder / "notes.db").touch()

    made = [backup.save(url, folder, 2).path for _ in range(4)]

    assert sorted(folder.iterdir()) == sorted([*made[2:], folder / "notes.db"])
    database.close()


@pytest.mark.parametrize("cut", [0, 10, 5000])
def test_given_a_backup_that_is_cut_off_then_it_is_refused_and_the_database_stays(
    url: str, tmp_path: Path, cut: int
) -> None:
    database = Database(url)
    database.migrate()
    with database.transaction() as session:
        session.add(DeviceRow(serial="a", worker="w1", generation=7, report={}))
    database.close()
    saved = backup.save(url, tmp_path / "backups", 3).path
    saved.write_bytes(saved.read_bytes()[:cut])

    with pytest.raises(InvalidRequest, match=str(saved)[-20:] if cut < 16 else "."):
        backup.restore(saved, url)

    assert generations(url) == [7]


def test_given_what_is_no_database_then_nothing_is_left_behind(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="there is no database"):
        backup.save(f"sqlite:///{tmp_path / 'none.db'}", tmp_path / "backups", 3)
    assert list((tmp_path / "backups").iterdir()) == []

    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE x (y)")
    with pytest.raises(InvalidRequest, match="damaged"):
        backup.save(f"sqlite:///{tmp_path / 'other.db'}", tmp_path / "backups", 3)
    assert list((tmp_path / "backups").iterdir()) == []


def test_given_a_password_then_it_stands_in_no_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pg_dump", "pg_restore"):
        program = tmp_path / name
        program.write_text(
            f'#!/bin/sh\necho "$@" >> {tmp_path}/arguments\necho "$PGPASSWORD" >&2\nexit 1\n'
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    with pytest.raises(InvalidRequest, match="pg_dump failed: s3cret"):
        backup.save("postgresql://u:s3cret@h/d?sslmode=require", tmp_path / "b", 3)

    assert "s3cret" not in (tmp_path / "arguments").read_text()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ProgramMissing, match="postgresql-client"):
        backup.save("postgresql://u@h/d", tmp_path / "b", 3)
