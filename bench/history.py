"""Reserving on a farm that has been used for long: what has ended is to slow nobody down."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import CTE, ColumnElement, String, Table, cast, insert, literal, true
from sqlalchemy import select as select_columns
from sqlmodel import Session, SQLModel, col, select

from bench.farm import Farm
from bench.measure import Measure
from bench.reservations import reserve
from icebus.client import PulseCountClient
from icebus.control.store.database import Database
from icebus.control.store.live import HAS_ENDED
from icebus.control.store.tables import DeviceRow, HistoryRow, HoldRow, ReservationRow, UtcDateTime
from icebus.schemas.message import now

ENDED = 100_000
"""Reservations that have ended, of a board each: thousands a day, for a month."""

ENTRIES = 2
"""Of the history, for each of them."""

PORTION = 1_000
"""Reservations written in a transaction, for which control waits; they ended at one moment."""

APART = timedelta(minutes=400)
"""Between those moments: all of them are kept."""

BOARDS = 8

RATIO = 1.3
"""What a request may take, of what it takes on a farm that has just been set up."""


def history(farm: Farm, client: PulseCountClient, rounds: int) -> Iterator[Measure]:
    """Reserving on a farm before and after it was used for long."""
    name = "SQLite" if farm.database is None else "PostgreSQL"
    shape = f"reserve {BOARDS} boards, {name}"
    new = _median(farm, client, rounds)
    yield Measure(f"{shape}, nothing before, p50", new, "ms")
    _use_for_long(farm.database_url)
    used = _median(farm, client, rounds)
    yield Measure(f"{shape}, {ENDED:,} ended before, p50", used, "ms")
    yield Measure(f"{shape}, the one of the other", used / new, "", RATIO)


def _median(farm: Farm, client: PulseCountClient, rounds: int) -> float:
    """Milliseconds from asking to every board serving."""
    first, *_ = list(reserve(farm, client, BOARDS, rounds))
    return first.value


def _use_for_long(url: str) -> None:
    """Write down what so many reservations like one that has ended leave behind."""
    database = Database(url)
    try:
        with database.transaction() as session:
            model = session.exec(select(ReservationRow.id).where(HAS_ENDED).limit(1)).one()
            serials = session.exec(select(DeviceRow.serial)).all()
        for portion, first in enumerate(range(0, ENDED, PORTION)):
            ended = now() - portion * APART
            with database.transaction() as session:
                _copy(session, model, first, serials[portion % len(serials)], ended)
        with database.transaction() as session:
            # What autovacuum does within a minute, of rows that come over weeks.
            session.connection().exec_driver_sql("ANALYZE")
    finally:
        database.close()


def _copy(session: Session, model: str, first: int, serial: str, ended: datetime) -> None:
    """Write down a portion of reservations, by the database itself."""
    numbers = _numbers(first, first + PORTION - 1)
    name = literal("bench-") + cast(numbers.c.number, String)
    _insert(
        session,
        ReservationRow,
        numbers,
        col(ReservationRow.id) == model,
        id=name,
        until=literal(ended, UtcDateTime),
    )
    held = (col(HoldRow.reservation) == model) & (col(HoldRow.serial) == serial)
    _insert(session, HoldRow, numbers, held, reservation=name)
    entries = (
        select(col(HistoryRow.number)).where(col(HistoryRow.reservation) == model).limit(ENTRIES)
    )
    _insert(
        session,
        HistoryRow,
        numbers,
        col(HistoryRow.number).in_(entries),
        reservation=name,
        at=literal(ended, UtcDateTime),
    )


def _numbers(first: int, last: int) -> CTE:
    """A table of all numbers from the first to the last, in its column ``number``."""
    numbers = select_columns(literal(first).label("number")).cte("numbers", recursive=True)
    return numbers.union_all(select_columns(numbers.c.number + 1).where(numbers.c.number < last))


def _insert(
    session: Session,
    model: type[SQLModel],
    numbers: CTE,
    which: ColumnElement[bool],
    **changed: ColumnElement[Any],
) -> None:
    """Copy rows of a table once for each number, changed so."""
    table: Table = SQLModel.metadata.tables[str(model.__tablename__)]
    # The history numbers its entries itself.
    columns = [each for each in table.columns if each.name != "number"]
    values = [changed.get(each.name, each) for each in columns]
    copies = select_columns(*values).select_from(table.join(numbers, true())).where(which)
    session.execute(insert(table).from_select([each.name for each in columns], copies))
