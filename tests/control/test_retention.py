"""What is deleted when it is old, and that what is kept slows nobody down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, func, insert, text
from sqlmodel import SQLModel, select
from tests.control.harness import Harness

from icebus.control.cleaning import Cleaning
from icebus.control.decide.lifecycle import LIVE_HOLDS, LIVE_RESERVATIONS
from icebus.control.operations import queue
from icebus.control.operations.due import expiry, retention
from icebus.control.settings import Settings
from icebus.control.store import statistics
from icebus.control.store.database import Database
from icebus.control.store.tables import HistoryRow, HoldRow, ReservationRow, UseRow
from icebus.control.transaction import Transaction
from icebus.schemas.errors import InvalidRequest, ReservationEnded, UnknownReservation
from icebus.schemas.operations.reservations import HoldState, ReservationState


def count(harness: Harness, table: type[SQLModel]) -> int:
    query = select(func.count()).select_from(table)
    return harness.run(lambda transaction: transaction.session.exec(query).one())


def add_ended(harness: Harness, number: int, days: float, user: str = "alice") -> None:
    """Reservations of one device that ended so long ago, with their holds."""
    ended = harness.now - timedelta(days=days)
    rows = [
        {
            "id": f"old{days:g}-{each}",
            "user": user,
            "kind": "pulsecount",
            "args": {},
            "state": ReservationState.ENDED,
            "created": ended - timedelta(hours=1),
            "until": ended - timedelta(seconds=each),
            "sequence": 0,
            "revision": 0,
            "duration": 3600.0,
            "priority": 0,
            "replace": False,
        }
        for each in range(number)
    ]
    holds = [
        {
            "reservation": row["id"],
            "serial": "a",
            "worker": "w1",
            "state": HoldState.RELEASED,
            "reason": "",
        }
        for row in rows
    ]

    def add(transaction: Transaction) -> None:
        transaction.session.execute(insert(ReservationRow), rows)
        transaction.session.execute(insert(HoldRow), holds)

    harness.run(add)


def drop_all(harness: Harness) -> int:
    """Delete portion by portion; returns how many there were."""
    portions = 1
    while harness.run(retention.drop_some):
        portions += 1
    return portions


def test_given_reservations_that_ended_long_ago_then_they_and_their_holds_are_deleted(
    harness: Harness,
) -> None:
    harness.settings = Settings(ended_days=30)
    harness.worker("w1", "a")
    add_ended(harness, 3, days=31)
    add_ended(harness, 2, days=29)
    live = harness.reserve(count=1)

    drop_all(harness)

    assert count(harness, ReservationRow) == 3
    assert count(harness, HoldRow) == 3
    assert [each.id for each in harness.live()] == [live.id]
    with pytest.raises(ReservationEnded):
        harness.ask("alice", "end", reservation="old29-0")
    with pytest.raises(UnknownReservation):
        harness.ask("alice", "end", reservation="old31-0")


def test_given_a_reservation_that_began_long_ago_and_lives_then_it_is_kept(
    harness: Harness,
) -> None:
    harness.settings = Settings(max_duration=100 * 86_400, ended_days=8)
    harness.worker("w1", "a")
    live = harness.reserve(count=1, duration=100 * 86_400)
    harness.now += timedelta(days=50)

    drop_all(harness)

    assert [each.id for each in harness.live()] == [live.id]


def test_given_what_is_kept_apart_then_the_history_outlives_the_reservation(
    harness: Harness,
) -> None:
    harness.settings = Settings(max_duration=7200, ended_days=8)
    harness.worker("w1", "a")
    made = harness.reserve(count=1, duration=3600)
    harness.wait(hours=1)
    harness.now += timedelta(days=9)

    drop_all(harness)

    assert count(harness, ReservationRow) == 0
    assert "ended" in [each for each, _, _ in harness.history(reservation=made.id)]


def test_given_uses_that_no_week_counts_then_they_are_deleted(harness: Harness) -> None:
    harness.worker("w1", "a")
    harness.reserve(count=1, duration=60)
    harness.wait(minutes=1)
    harness.now += timedelta(days=9)

    drop_all(harness)

    assert count(harness, UseRow) == 0


def test_given_many_then_they_are_deleted_in_portions(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PORTION", 10)
    harness.worker("w1", "a")
    add_ended(harness, 95, days=40)
    before = count(harness, ReservationRow)

    first = harness.run(retention.drop_some)
    after_one = count(harness, ReservationRow)
    rest = drop_all(harness)

    assert (first, before - after_one) == (True, 10)
    assert rest == 9
    assert count(harness, ReservationRow) == 0
    assert count(harness, HoldRow) == 0


def test_given_history_of_one_moment_longer_than_a_portion_then_all_of_it_goes(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PORTION", 3)
    serials = [f"d{number}" for number in range(8)]
    harness.worker("w1", *serials)
    harness.reserve(count=8, duration=60)
    harness.wait(minutes=1)
    harness.now += timedelta(days=500)

    drop_all(harness)

    assert count(harness, HistoryRow) == 0


@pytest.mark.parametrize("days", [0.5, 7.9, float("nan"), 1e9])
def test_given_days_that_make_no_sense_then_they_are_refused(days: float) -> None:
    with pytest.raises(InvalidRequest, match="ended_days"):
        Settings(ended_days=days)


def test_when_there_is_more_then_the_next_portion_is_soon_and_otherwise_later(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PORTION", 10)
    harness.worker("w1", "a")
    add_ended(harness, 15, days=40)
    cleaning = Cleaning(harness.database)

    def run(step: Any) -> bool:
        harness.run(step)
        return True

    soon: list[float] = []
    later: list[float] = []
    for pauses in (soon, later):
        before = cleaning.at = 0.0
        cleaning.run_if_due(run)
        pauses.append(cleaning.at - before)

    assert later[0] - soon[0] > 30


@pytest.mark.parametrize("backend", ["sqlite"])
def test_given_a_file_from_which_much_is_deleted_then_it_gets_shorter(
    harness: Harness, database_url: str
) -> None:
    path = Path(database_url.removeprefix("sqlite:///"))
    harness.worker("w1", "a")
    add_ended(harness, 8000, days=40)
    harness.database.close()
    before = path.stat().st_size

    drop_all(harness)
    while free_pages(harness.database):
        harness.database.shrink()
    harness.database.close()

    assert path.stat().st_size < before / 4


def free_pages(database: Database) -> int:
    with database.engine.begin() as connection:
        return int(connection.exec_driver_sql("PRAGMA freelist_count").scalar_one())


# --- what has ended slows nobody down ---------------------------------------------------------


def test_then_what_the_indexes_call_live_is_what_lives() -> None:
    assert set(ReservationState) - set(LIVE_RESERVATIONS) == {ReservationState.ENDED}
    assert set(HoldState) - set(LIVE_HOLDS) == {HoldState.RELEASED}


@contextmanager
def plans(database: Database) -> Iterator[list[tuple[str, str]]]:
    """How SQLite carries out each statement of the block."""
    found: list[tuple[str, str]] = []
    explaining = False

    def explain(
        connection: Connection, _cursor: Any, statement: str, parameters: Any, *_: Any
    ) -> None:
        nonlocal explaining
        if explaining or not statement.startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
            return
        explaining = True
        raw: Any = connection.connection.dbapi_connection
        first = parameters[0] if isinstance(parameters, list) else parameters
        rows = raw.execute(f"EXPLAIN QUERY PLAN {statement}", first).fetchall()
        found.append((statement, "\n".join(row[3] for row in rows)))
        explaining = False

    event.listen(database.engine, "before_cursor_execute", explain)
    yield found
    event.remove(database.engine, "before_cursor_execute", explain)


@pytest.mark.parametrize("backend", ["sqlite"])
@pytest.mark.parametrize("known", [False, True])
def test_given_what_has_ended_then_no_request_reads_all_of_it(
    harness: Harness, known: bool
) -> None:
    harness.settings = Settings(max_duration=7200)
    harness.worker("w1", "a", "b", "c")
    add_ended(harness, statistics.ROWS_READ if known else 500, days=1)
    harness.database.refresh_statistics(all_tables=known)

    with plans(harness.database) as found:
        made = harness.reserve(count=2)
        harness.report_serving("w1", made)
        harness.ask("alice", "extend", reservation=made.id, duration=60)
        harness.ask("alice", "limits")
        harness.ask("alice", "list")
        harness.ask("alice", "available", kind="pulsecount")
        harness.ask("alice", "end", reservation=made.id)
        harness.run(lambda transaction: queue.preview(transaction))
        harness.run(lambda transaction: expiry.do_due(transaction, connected=True))
        harness.run(lambda transaction: expiry.next_due(transaction, connected=True))
        harness.run(retention.drop_some)

    assert len(found) > 20
    for statement, plan in found:
        for table in ("reservations", "holds", "history", "requests", "uses"):
            whole = [
                line
                for line in plan.splitlines()
                if line.startswith(f"SCAN {table}")
                and "INDEX reservations_live" not in line
                # Counted once a minute, in an index that has no more than a row for each.
                and "GROUP BY requests" not in statement
                and "INDEX holds_one_live_per_device" not in line
            ]
            assert whole == [], statement


@pytest.mark.parametrize("backend", ["postgresql"])
def test_given_a_server_that_has_not_analyzed_then_it_takes_the_indexes_of_what_lives(
    harness: Harness,
) -> None:
    harness.worker("w1", "a")
    add_ended(harness, 5000, days=1)
    live = "SELECT * FROM reservations WHERE state != 'ended' AND \"user\" = 'alice'"
    held = "SELECT * FROM holds WHERE state != 'released' AND serial IN ('a', 'b')"

    def explain(statement: str) -> str:
        with harness.database.engine.begin() as connection:
            rows = connection.execute(text(f"EXPLAIN {statement}"))
            return "\n".join(row[0] for row in rows)

    assert "reservations_live" in explain(live)
    assert "holds_one_live_per_device" in explain(held)


@pytest.mark.parametrize("backend", ["postgresql"])
def test_given_tables_that_changed_much_then_the_server_has_looked_at_them_and_no_others(
    harness: Harness,
) -> None:
    def looked_at() -> dict[str, int]:
        with harness.database.engine.begin() as connection:
            rows = connection.execute(
                text("SELECT relname, analyze_count FROM pg_stat_user_tables")
            )
            return {name: count for name, count in rows if count}

    harness.worker("w1", "a")
    add_ended(harness, 2 * statistics.CHANGED, days=1)
    harness.database.close()  # a connection tells the server what it changed when it ends
    harness.database.refresh_statistics()
    first = looked_at()
    harness.database.refresh_statistics()

    assert {"reservations", "holds"} <= first.keys()
    assert looked_at() == first, "nothing has changed since"
    harness.database.refresh_statistics(all_tables=True)
    assert looked_at()["lease"] == first.get("lease", 0) + 1


def test_given_a_database_that_can_not_be_asked_then_its_statistics_are_left_for_later(
    tmp_path: Path,
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'control.db'}")
    (tmp_path / "control.db").write_bytes(b"no database" * 1000)

    database.refresh_statistics(all_tables=True)

    gone = Database("postgresql://icebus@/none?host=/nowhere")
    gone.refresh_statistics()
