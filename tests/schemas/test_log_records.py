"""Lines of logs on the bus: bounded, one line each, and without passwords."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.schemas.log_records import (
    LARGEST_RECORD,
    LogRecord,
    RecentLines,
    RecentLog,
    RecordLevel,
    read_record,
)
from icebus.schemas.message import decode, now

anything = st.text(st.characters(), max_size=50) | st.integers() | st.floats() | st.none()


def logged(message: str, *args: object, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("icebus.test", logging.WARNING, __file__, 1, message, args, None)
    made.__dict__.update(fields)
    return made


def line(number: int, level: RecordLevel = RecordLevel.WARNING, message: str = "") -> LogRecord:
    return LogRecord(
        id=f"a-{number}", at=now(), level=level, logger="t", message=message or f"line {number}"
    )


def ids(recent: RecentLog) -> list[str]:
    return [each.id for each in recent.lines]


@given(st.text(st.characters(), max_size=200), st.dictionaries(st.text(max_size=9), anything))
def test_given_any_text_and_fields_then_what_is_sent_is_read_back_and_obeyed_by_nothing(
    text: str, fields: dict[str, Any]
) -> None:
    sent = read_record(logged("%s", text, f_=1, **{f"x{k}": v for k, v in fields.items()}), "a-1")
    assert decode(LogRecord, sent.to_json()) == sent
    shown = [sent.message, *sent.fields, *(each for each in sent.fields.values())]
    assert all(str(each).isprintable() for each in shown)


def test_given_endless_text_fields_and_traceback_then_a_line_is_bounded() -> None:
    made = logged(
        "%s", "\U0010ffff" * 2_000_000, **{f"{n}{'f' * 999}": "\0" * 9999 for n in range(99)}
    )
    try:
        raise ValueError("ü\n" * 100_000)
    except ValueError:
        made.exc_info = sys.exc_info()
    assert len(read_record(made, "a-1").to_json()) <= LARGEST_RECORD


@pytest.mark.parametrize("password", ["secret", "se:cret", "se%40cret"])
def test_given_a_password_in_a_url_then_it_is_not_sent(password: str) -> None:
    sent = read_record(logged("no answer of postgresql://ann:%s@db/x", password), "a-1")
    assert sent.message == "no answer of postgresql://ann:…@db/x"


def test_given_who_it_is_about_then_it_stands_in_fields_and_the_subject_does_not() -> None:
    sent = read_record(logged("m", serial="B1", subject="B1", evaluation="e"), "a-1")
    assert sent.fields == {"serial": "B1", "evaluation": "e"}


def test_given_many_facts_then_the_warnings_before_them_stay_and_all_are_in_order() -> None:
    recent = RecentLines(warnings=3, facts=2, largest=100_000)
    for number in range(5):
        recent.add(line(number))
    for number in range(5, 100):
        recent.add(line(number, RecordLevel.INFO))
    assert ids(recent.message()) == ["a-2", "a-3", "a-4", "a-98", "a-99"]


def test_given_lines_that_are_too_large_together_then_the_newest_are_kept() -> None:
    recent = RecentLines(warnings=100, facts=100, largest=5000)
    for number in range(100):
        recent.add(line(number, message="x" * 900))
    assert ids(recent.message()) == ["a-95", "a-96", "a-97", "a-98", "a-99"][-4:]
    assert len(recent.message().to_json()) <= 5000


def test_given_what_an_earlier_run_said_then_it_comes_before_and_makes_no_line_of_ours_go() -> None:
    recent = RecentLines(warnings=3, facts=3, largest=100_000)
    recent.add(line(7))
    recent.add(line(8))
    recent.put_before(RecentLog(lines=[line(1), line(2), line(7)]))
    assert ids(recent.message()) == ["a-2", "a-7", "a-8"]
