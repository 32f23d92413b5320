"""Logs as JSON: one object a line, whatever is in it, from every program."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.schemas.programs.log_options import JsonFormatter, LogLevel

PROGRAMS = {
    "icebus.broker.cli.app": ("run", "-d", "/nowhere/at/all"),
    "icebus.control": ("--broker", "/nowhere"),
    "icebus.worker": ("--broker", "mqtt://w:x@127.0.0.1:1", "--rack", "/nowhere", "--label", "="),
}


def document(record: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(record)
    assert line.isascii()
    assert line.isprintable(), "it is one line, and no terminal obeys it"
    read: dict[str, Any] = json.loads(line)
    return read


@given(
    st.text(), st.dictionaries(st.text(max_size=5), st.one_of(st.text(), st.floats()), max_size=3)
)
def test_given_any_text_then_a_record_is_one_object_in_one_line(
    text: str, more: dict[str, Any]
) -> None:
    record = logging.makeLogRecord(
        {"name": "icebus.x", "levelno": 30, "levelname": "WARNING", "msg": "%s", "args": (text,)}
    )
    record.__dict__["details"] = more
    record.__dict__["number"] = float("nan")

    read = document(record)

    assert read["level"] == "warning"
    assert read["logger"] == "icebus.x"
    assert read["fields"].keys() == {"details", "number"}


def test_given_fields_and_a_failure_then_they_are_values_and_lines() -> None:
    try:
        raise ValueError("no\n{}")
    except ValueError:
        record = logging.getLogger("icebus").makeRecord(
            "icebus", 40, "f", 1, "failed", (), sys.exc_info(), extra={"serial": "A", "count": 3}
        )

    read = document(record)

    assert read["fields"] == {"serial": "A", "count": 3}
    assert read["message"] == "failed"
    assert "ValueError: no" in read["traceback"]
    assert read["time"].endswith("Z")


def test_given_a_level_then_it_is_that_of_the_standard_library() -> None:
    assert [each.number for each in LogLevel] == [10, 20, 30, 40]


@pytest.mark.parametrize("module", PROGRAMS)
def test_given_a_program_that_can_not_start_then_that_is_json_too(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, *PROGRAMS[module]],
        env={"ICEBUS_LOG_FORMAT": "json", "PATH": "/usr/bin", "HOME": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines
    assert lines[-1]["level"] == "critical"
