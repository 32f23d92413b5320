"""Which log lines a reader is told: each once, those asked for, and of whose word counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.client._logs.lines import LogFeed, LogLine, SenderLimit, Wanted
from icebus.client.cli.commands.farm.logs import as_row, as_text
from icebus.schemas.errors import InvalidRequest
from icebus.schemas.log_records import MOST_RECENT, LogRecord, RecentLog, RecordLevel
from icebus.schemas.message import now
from icebus.schemas.operations.reservations import (
    HeldDevice,
    HoldState,
    Reservation,
    ReservationState,
)
from icebus.schemas.topics import DEVICE_LOG, LOG, LOG_RECENT, RESERVATION

WORKER = {"role": "worker", "id": "w1"}
DEVICE = {"user": "alice", "reservation": "r1", "sender": "w1", "serial": "B1"}


def record(number: int = 1, message: str = "it failed", **more: Any) -> LogRecord:
    known = {"at": now(), "level": RecordLevel.WARNING, "logger": "icebus.worker", **more}
    return LogRecord(id=f"a-{number}", message=message, **known)


def recent(*records: LogRecord) -> bytes:
    return RecentLog(lines=list(records)).to_json()


def held(user: str, worker: str = "w1", state: HoldState = HoldState.SERVING) -> bytes:
    return Reservation(
        id="r1",
        user=user,
        kind="pulsecount",
        state=ReservationState.ACTIVE,
        created=now(),
        until=now(),
        devices=[HeldDevice(serial="B1", worker=worker, state=state)],
    ).to_json()


def feed(**wanted: Any) -> LogFeed:
    return LogFeed("alice", Wanted(**wanted))


def test_given_a_line_that_is_told_twice_then_it_counts_once() -> None:
    reader = feed()
    assert len(reader.take(LOG, {**WORKER, "level": "warning"}, record(1).to_json())) == 1
    told = reader.take(LOG_RECENT, WORKER, recent(record(1), record(2)))
    assert len(told) == 1
    assert reader.take(LOG_RECENT, WORKER, recent(record(1), record(2))) == []
    assert len(reader.take(LOG_RECENT, {**WORKER, "id": "w2"}, recent(record(1)))) == 1


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({}, True),
        ({"level": RecordLevel.ERROR}, False),
        ({"worker": "w1"}, True),
        ({"worker": "w2"}, False),
        ({"serial": "b1"}, True),
        ({"serial": "B2"}, False),
        # As seen from when the tests are collected, which may be long before this one runs.
        ({"since": datetime.now(UTC) - timedelta(days=1)}, True),
        ({"since": datetime.now(UTC) + timedelta(days=1)}, False),
    ],
)
def test_given_what_is_wanted_then_only_such_lines_are_told(
    wanted: dict[str, Any], *, told: bool
) -> None:
    line = recent(record(fields={"serial": "B1"}))
    assert bool(feed(**wanted).take(LOG_RECENT, WORKER, line)) is told


@pytest.mark.parametrize(
    ("reservation", "told"),
    [
        (held("alice"), True),
        (held("alice", worker="w2"), False),
        (held("alice", state=HoldState.RELEASED), False),
        (held("bob"), False),
        (b"", False),
    ],
)
def test_given_a_worker_that_tells_of_a_board_then_it_counts_only_if_the_reader_has_it_of_it(
    reservation: bytes, *, told: bool
) -> None:
    reader = feed()
    reader.take(RESERVATION, {"reservation": "r1"}, held("alice"))
    reader.take(RESERVATION, {"reservation": "r1"}, reservation)
    lines = reader.take(DEVICE_LOG, DEVICE, recent(record(fields={"serial": "B9"})))
    assert [line.serial for line in lines] == (["B1"] if told else [])


@given(st.text(st.characters(), max_size=300), st.dictionaries(st.text(), st.text(), max_size=20))
def test_given_a_worker_whose_key_was_stolen_then_no_terminal_obeys_its_lines(
    text: str, fields: dict[str, Any]
) -> None:
    forged = record(message=text.encode(errors="ignore").decode(), fields=fields, traceback=["\n"])
    (line,) = feed().take(LOG_RECENT, WORKER, recent(forged))
    first, *rest = as_text(line).split("\n")
    assert first.isprintable()
    assert all(each.startswith("  | ") and each.isprintable() for each in rest)
    assert len(line.message) <= 1200
    assert len(line.fields) < 12


def test_given_a_megabyte_in_a_line_then_what_is_kept_of_it_is_short() -> None:
    (line,) = feed().take(LOG_RECENT, WORKER, recent(record(message="x" * 1_000_000)))
    assert len(line.message) < 1200


def test_given_a_flood_of_one_component_then_it_is_counted_apart_and_anew_each_window() -> None:
    limit = SenderLimit()
    counts = [limit.count("worker", "w1", number / 1000) for number in range(4000)]
    assert counts[-1] == 4000
    assert limit.count("worker", "w2", 4.0) == 1
    assert limit.count("worker", "w1", 5.0) == 1


def test_given_a_flood_of_one_component_then_no_line_of_another_is_told_again() -> None:
    reader = feed()
    control = {"role": "control", "id": "main"}
    assert len(reader.take(LOG_RECENT, control, recent(record(1)))) == 1
    for batch in range(20):
        flood = recent(*(record(1000 * batch + number) for number in range(300)))
        assert len(reader.take(LOG_RECENT, WORKER, flood)) == MOST_RECENT
    assert reader.take(LOG_RECENT, control, recent(record(1))) == []


def test_given_lines_of_many_boards_when_one_is_told_of_anew_then_none_is_there_twice() -> None:
    reader = feed()
    reader.take(RESERVATION, {"reservation": "r1"}, held("alice"))
    lines = recent(*(record(number) for number in range(40)))
    assert len(reader.take(DEVICE_LOG, DEVICE, lines)) == 40
    for sender in range(300):
        reader.take(LOG_RECENT, {"role": "worker", "id": f"x{sender}"}, lines)
    assert reader.take(DEVICE_LOG, DEVICE, lines) == []


def test_given_a_number_of_thousands_of_digits_then_what_is_shown_of_it_is_short() -> None:
    (line,) = feed().take(LOG_RECENT, WORKER, recent(record(fields={"count": 10**4000})))
    assert len(as_text(line)) < 500


def test_given_what_is_no_line_then_it_is_refused_with_the_reason() -> None:
    with pytest.raises(InvalidRequest, match="LogRecord"):
        feed().take(LOG, {**WORKER, "level": "info"}, b"{}")
    assert feed().take(LOG, {**WORKER, "level": "debug"}, b"") == []


def test_given_a_line_at_the_end_of_the_calendar_when_shown_then_it_has_a_time() -> None:
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    line = LogLine(last, RecordLevel.INFO, "broker", "broker", "l", "m", {"evaluation": "e"})
    assert "9999-12-31" in as_text(line)
    assert "  broker " in as_text(line)
    assert "(evaluation=e)" in as_text(line)
    assert as_row(line)["serial"] is None
