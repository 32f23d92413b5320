"""Whether the database can be used, and what is said of that."""

from __future__ import annotations

import logging
import sqlite3
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from icebus.control.store.availability import Availability, Away
from icebus.control.store.database_failures import cause_of, is_away
from icebus.schemas.database import DatabaseCause, DatabaseTrouble


def of_sqlite(code: int) -> DBAPIError:
    raised = sqlite3.OperationalError("words")
    raised.sqlite_errorcode = code
    return OperationalError("BEGIN", {}, raised)


def of_postgresql(kind: type[psycopg.Error], *, broken: bool = False) -> DBAPIError:
    raised: Any = kind("words")
    return OperationalError("BEGIN", {}, raised, connection_invalidated=broken)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (of_sqlite(sqlite3.SQLITE_BUSY), DatabaseCause.LOCKED),
        (of_sqlite(sqlite3.SQLITE_BUSY_SNAPSHOT), DatabaseCause.LOCKED),
        (of_sqlite(sqlite3.SQLITE_FULL), DatabaseCause.FULL),
        (of_sqlite(sqlite3.SQLITE_IOERR_WRITE), DatabaseCause.DISK),
        (of_sqlite(sqlite3.SQLITE_READONLY_DIRECTORY), DatabaseCause.READ_ONLY),
        (of_sqlite(sqlite3.SQLITE_READONLY_DBMOVED), DatabaseCause.MISSING),
        (of_sqlite(sqlite3.SQLITE_CANTOPEN), DatabaseCause.MISSING),
        (of_sqlite(sqlite3.SQLITE_CORRUPT_INDEX), DatabaseCause.DAMAGED),
        (of_sqlite(sqlite3.SQLITE_NOMEM), DatabaseCause.FAILED),
        (of_postgresql(psycopg.errors.DiskFull), DatabaseCause.FULL),
        (of_postgresql(psycopg.errors.TooManyConnections), DatabaseCause.UNREACHABLE),
        (of_postgresql(psycopg.errors.AdminShutdown, broken=True), DatabaseCause.UNREACHABLE),
        (of_postgresql(psycopg.errors.InvalidPassword), DatabaseCause.UNREACHABLE),
        (of_postgresql(psycopg.errors.ReadOnlySqlTransaction), DatabaseCause.READ_ONLY),
        (of_postgresql(psycopg.errors.LockNotAvailable), DatabaseCause.LOCKED),
        (of_postgresql(psycopg.errors.UndefinedTable), DatabaseCause.MISSING),
        (of_postgresql(psycopg.errors.DataCorrupted), DatabaseCause.DAMAGED),
        (of_postgresql(psycopg.OperationalError), DatabaseCause.UNREACHABLE),
    ],
)
def test_given_what_a_driver_raises_then_the_cause_is_known(
    error: DBAPIError, cause: DatabaseCause
) -> None:
    assert cause_of(error) is cause
    assert is_away(error)


def test_given_a_row_that_is_refused_then_the_database_is_not_away() -> None:
    assert not is_away(IntegrityError("INSERT", {}, sqlite3.IntegrityError("UNIQUE")))


@pytest.mark.parametrize("cause", DatabaseCause)
def test_given_any_cause_then_there_are_words_and_a_remedy(cause: DatabaseCause) -> None:
    availability = Availability()
    availability.suspect(cause, "")

    assert availability.trouble is not None
    assert availability.trouble.words
    assert availability.trouble.remedy


def test_given_a_database_that_fails_often_then_each_cause_is_told_once_and_that_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    availability = Availability()

    for _ in range(50):
        availability.failed(of_sqlite(sqlite3.SQLITE_BUSY))
        availability.failed(of_sqlite(sqlite3.SQLITE_FULL))
    for _ in range(50):
        availability.works()

    locked, full, back = caplog.messages
    assert "is locked by another program (words)" in locked
    assert "has no room left (words)" in full
    assert "can be used again, after 0.0 s" in back


def test_given_a_database_that_fails_then_who_wants_to_know_is_told_of_each_change() -> None:
    said: list[DatabaseCause | None] = []
    availability = Availability()

    def note() -> None:
        trouble = availability.trouble
        said.append(None if trouble is None else trouble.cause)

    availability.on_change(note)
    for code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL):
        availability.failed(of_sqlite(code))
    availability.works()

    assert said == [DatabaseCause.LOCKED, DatabaseCause.FULL, None]


def test_given_a_cause_that_changes_then_it_began_when_the_first_did() -> None:
    availability = Availability()
    availability.failed(of_sqlite(sqlite3.SQLITE_BUSY))
    first = availability.trouble

    availability.failed(of_sqlite(sqlite3.SQLITE_FULL))

    assert first is not None
    assert availability.trouble == DatabaseTrouble(since=first.since, cause=DatabaseCause.FULL)


def test_given_somebody_who_looks_for_it_then_it_is_left_alone_until_it_is_found() -> None:
    looked: list[str] = []
    availability = Availability()
    availability.probe_with(lambda: looked.append("began"))

    availability.check()
    availability.failed(of_sqlite(sqlite3.SQLITE_BUSY))
    with pytest.raises(Away):
        availability.check()
    availability.works()
    still = availability.trouble
    availability.found()
    availability.check()
    availability.works()

    assert looked == ["began"]
    assert still is not None
    assert availability.trouble is None


def test_given_a_refusal_then_it_says_what_to_do_and_whether_it_may_have_been_done() -> None:
    availability = Availability()
    broken = of_postgresql(psycopg.errors.AdminShutdown, broken=True)
    availability.failed(broken)

    sure, doubtful = availability.refusal(Away()), availability.refusal(broken)

    assert "nothing was done" in sure.message
    assert sure.details["cause"] == "unreachable"
    assert sure.details["retry_after"] > 0
    assert (sure.details["in_doubt"], doubtful.details["in_doubt"]) == (False, True)
    assert "may have been done" in doubtful.message
