"""The health of a control: what is judged, and what is asked."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.postgresql import PostgresServer

from icebus.bus import BrokerAddress
from icebus.control.health import Facts, judge, look
from icebus.control.store.database import Database
from icebus.control.store.looking import DatabaseSeen, look_at
from icebus.schemas.components import ControlState, Heartbeat, Presence
from icebus.schemas.database import DatabaseCause, DatabaseTrouble
from icebus.schemas.deadline import Deadline
from icebus.schemas.supervision.health import Severity

NOW = 1_800_000_000.0
WELL = Facts(
    name="main",
    state=ControlState(state=Presence.ONLINE, session="s1", leading=True),
    heartbeat=Heartbeat(epoch="s1", sequence=1, interval=1.0),
    database=DatabaseSeen(),
    now=NOW,
    installed=NOW - 1,
)


def test_given_a_control_that_leads_then_it_is_well() -> None:
    verdict = judge(WELL)

    assert verdict.severity is Severity.OK
    assert "it leads" in verdict.line


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"broker": "no broker answers at x"}, "no broker answers"),
        ({"state": None}, "not running"),
        ({"state": ControlState(state=Presence.LOST, session="s1")}, "lost its connection or died"),
        ({"state": ControlState(state=Presence.OFFLINE, session="s1")}, "was stopped"),
        ({"heartbeat": None}, "nobody leads"),
        ({"database": DatabaseSeen(problem="its database does not answer: x")}, "does not answer"),
        ({"own_ends": NOW - 1}, "control's certificate ended"),
    ],
)
def test_given_something_that_keeps_it_from_serving_then_it_is_critical(
    changed: dict[str, Any], says: str
) -> None:
    verdict = judge(replace(WELL, **changed))

    assert verdict.severity is Severity.CRITICAL
    assert says in verdict.line


def test_given_a_database_whose_clock_is_another_then_that_is_a_warning() -> None:
    verdict = judge(replace(WELL, database=DatabaseSeen(clock=NOW + 3600)))

    assert verdict.severity is Severity.WARNING


def test_given_no_broker_then_it_is_said_within_the_time_given(tmp_path: Path) -> None:
    address = BrokerAddress("127.0.0.1", 1, "main", "x")

    verdict = look(address, f"sqlite:///{tmp_path / 'control.db'}", 0.5)

    assert verdict.severity is Severity.CRITICAL
    assert not (tmp_path / "control.db").exists(), "whoever looks makes nothing"


def test_given_a_file_then_only_a_database_of_control_answers(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    url = f"sqlite:///{path}"
    assert look_at(url, Deadline.after(1)).missing

    path.write_bytes(b"no database" * 100)
    assert "can't be read" in look_at(url, Deadline.after(1)).problem

    path.unlink()
    database = Database(url)
    database.migrate()
    assert look_at(url, Deadline.after(1)) == DatabaseSeen()
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        assert look_at(url, Deadline.after(1)) == DatabaseSeen(), "a writer holds nobody up"
    database.close()


def test_given_postgresql_then_it_is_asked_for_its_clock_and_its_absence_is_told(
    postgresql: PostgresServer,
) -> None:
    name = postgresql.create()
    database = Database(postgresql.url(name))
    database.migrate()
    database.close()

    seen = look_at(postgresql.url(name), Deadline.after(5))

    assert seen.problem == ""
    assert seen.clock is not None
    assert look_at(postgresql.url("nothing"), Deadline.after(5)).problem


def test_given_a_control_that_says_that_its_database_is_away_then_that_counts() -> None:
    trouble = DatabaseTrouble(
        since=datetime(2026, 1, 2, tzinfo=UTC), cause=DatabaseCause.UNREACHABLE
    )
    state = ControlState(state=Presence.ONLINE, session="s1", database=trouble)

    verdict = judge(replace(WELL, state=state))

    assert verdict.severity is Severity.CRITICAL
    assert "can't be connected to since 2026-01-02 00:00:00 UTC: start it" in verdict.line
