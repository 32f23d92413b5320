"""The log of a program: bounded, and nothing in it is forged."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.schemas.programs.logs import (
    CONTINUED,
    FACTS,
    LONGEST_LINE,
    LONGEST_WINDOW,
    REMEMBERED,
    TRACEBACK_LINES,
    WARNINGS,
    WINDOW,
    BoundedHandler,
    LineCounter,
    LineFormatter,
    UnconfiguredHandler,
    printable,
)


def record(
    message: str, *args: object, level: int = logging.WARNING, subject: str | None = None
) -> logging.LogRecord:
    made = logging.LogRecord("icebus.test", level, __file__, 1, message, args, None)
    if subject is not None:
        made.subject = subject
    return made


def texts(records: list[logging.LogRecord]) -> list[str]:
    return [each.getMessage() for each in records]


# --- no line is forged --------------------------------------------------------------------------


@given(st.text(st.characters(), max_size=300))
def test_given_any_text_when_logged_then_it_is_one_line_of_what_is_printed(text: str) -> None:
    line = LineFormatter("%(levelname)s %(message)s").format(record("%s", text))
    assert line.isprintable()
    line.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\n2026-11-28 ERROR icebus: forged", r"a\n2026-11-28 ERROR icebus: forged"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("a\u2028b\x85c\rd", r"a\u2028b\x85c\rd"),
        ("\ud800", r"\ud800"),
        ("Grüße, 板", "Grüße, 板"),
    ],
)
def test_given_what_a_terminal_obeys_then_its_escape_is_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters(), max_size=300))
def test_given_an_error_with_any_text_then_no_line_of_its_traceback_looks_like_ours(
    text: str,
) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        made = record("failed")
        made.exc_info = sys.exc_info()
    first, *rest = LineFormatter("%(message)s").format(made).split("\n")
    assert first == "failed"
    assert all(line.startswith(CONTINUED) and line.isprintable() for line in rest)


def test_given_an_endless_text_or_traceback_then_what_is_said_of_it_is_bounded() -> None:
    def deeper(left: int) -> None:
        if left == 0:
            raise ValueError("\n".join("x" * 10_000 for _ in range(1000)))
        deeper(left - 1)

    try:
        deeper(20)
    except ValueError:
        made = record("%s", "y" * 100_000)
        made.exc_info = sys.exc_info()
    said = LineFormatter("%(message)s").format(made)
    assert len(said) < (TRACEBACK_LINES + 3) * (LONGEST_LINE + 100)
    assert "98,000 characters more" in said


# --- no flood -----------------------------------------------------------------------------------


def test_given_a_warning_2000_times_then_it_is_said_once_and_counted_when_the_window_ends() -> None:
    counter = LineCounter()
    said = [counter.admit(record("lost %s", "alice"), n / 2000) for n in range(2000)]
    assert said == [True, *[False] * 1999]
    assert counter.due == WINDOW
    assert counter.sum_up(WINDOW - 0.1) == []
    assert texts(counter.sum_up(WINDOW)) == ["lost alice … and 1,999 more like it in 10 s"]
    assert counter.due is None


def test_given_a_flood_of_different_texts_then_some_are_said_and_the_rest_are_counted() -> None:
    counter = LineCounter()
    said = [counter.admit(record("refused %s", n), 1.0) for n in range(5000)]
    assert sum(said) == WARNINGS
    assert texts(counter.sum_up(11.0)) == ["refused 4999 … and 4,990 more like it in 10 s"]


def test_given_one_s_flood_then_what_others_did_is_still_said() -> None:
    counter = LineCounter()
    for n in range(5000):
        counter.admit(record("refused %s", n, subject="mallory"), 1.0)
    assert counter.admit(record("refused %s", 7000, subject="alice"), 1.0)
    assert counter.admit(record("another line"), 1.0)


def test_given_1000_boards_that_are_found_at_once_then_each_is_said() -> None:
    counter = LineCounter()
    found = [record("found %s", n, level=logging.INFO) for n in range(FACTS + 5)]
    assert sum(counter.admit(each, 0.0) for each in found) == FACTS


def test_given_a_flood_that_does_not_end_then_it_is_said_ever_more_rarely() -> None:
    counter = LineCounter()
    now, lines = 0.0, 0
    while now < 72 * 3600:
        lines += counter.admit(record("again"), now)
        lines += len(counter.sum_up(now))
        now += 5.0
    assert lines < 72 * 3600 / LONGEST_WINDOW + 20


def test_given_a_warning_now_and_then_then_it_is_said_each_time() -> None:
    counter = LineCounter()
    assert all(counter.admit(record("blinked"), n * (WINDOW + 1)) for n in range(5))


def test_given_subjects_without_end_then_only_so_many_are_kept_count_of() -> None:
    counter = LineCounter()
    for n in range(3 * REMEMBERED):
        counter.admit(record("refused", subject=str(n)), 0.0)
        counter.admit(record("refused", subject=str(n)), 0.0)
    assert len(counter.sum_up(WINDOW)) == REMEMBERED


def test_given_somebody_who_asks_for_details_then_they_get_them() -> None:
    counter = LineCounter()
    assert all(counter.admit(record("detail", level=logging.DEBUG), 0.0) for _ in range(100))


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 3)), max_size=200))
def test_given_any_lines_then_every_one_is_said_or_counted(lines: list[tuple[int, float]]) -> None:
    counter = LineCounter()
    now, said, summed = 0.0, 0, 0
    for text, pause in lines:
        now += pause
        said += counter.admit(record("line %s", text), now)
        summed += _counted(counter.sum_up(now))
    summed += _counted(counter.sum_up(now, all_of_it=True))
    assert said + summed == len(lines)


def _counted(summaries: list[logging.LogRecord]) -> int:
    return sum(
        int(each.getMessage().split("and ")[1].split()[0].replace(",", "")) for each in summaries
    )


def test_when_a_handler_is_closed_then_it_says_what_it_counted_and_its_thread_ends() -> None:
    stream = io.StringIO()
    handler = BoundedHandler(stream)
    handler.setFormatter(LineFormatter("%(message)s"))
    threads = threading.active_count()
    for _ in range(100):
        handler.handle(record("again"))
    handler.close()
    assert stream.getvalue().splitlines()[0] == "again"
    assert "again … and 99 more like it" in stream.getvalue().splitlines()[1]
    for each in threading.enumerate():
        if each.name == "icebus-log":
            each.join(5)
    assert threading.active_count() <= threads


# --- programs -----------------------------------------------------------------------------------

PROGRAM = """
import logging, threading
from icebus.schemas.programs.logs import log_to_stderr
log_to_stderr(logging.INFO)
log = logging.getLogger("icebus.x")
for _ in range(3000):
    log.warning("refused %s", "a\\nERROR forged")
def fail():
    raise ValueError("b\\nERROR forged")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
"""


def test_given_a_program_then_a_flood_and_a_thread_s_end_are_a_few_lines_none_of_them_forged() -> (
    None
):
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    lines = ended.stderr.splitlines()
    assert "2,999 more like it" in ended.stderr
    assert len(lines) < 15
    assert not [line for line in lines if line.startswith("ERROR")]


def test_given_a_library_in_a_program_without_logging_then_its_warnings_are_bounded_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    handler = UnconfiguredHandler()
    for _ in range(50):
        handler.handle(record("lost\nthe broker"))
    handler.close()
    said = capsys.readouterr().err.splitlines()
    assert said[0] == r"WARNING icebus.test: lost\nthe broker"
    assert len(said) == 2


def test_given_a_library_in_a_program_with_logging_then_it_leaves_that_to_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    UnconfiguredHandler().handle(record("lost"))
    assert capsys.readouterr().err == ""


def test_given_a_shell_that_hides_nothing_then_a_program_s_files_are_its_owner_s_only(
    tmp_path: Path,
) -> None:
    program = (
        "import os, sqlite3, sys\n"
        "from icebus.schemas.programs.logs import keep_files_private\n"
        "keep_files_private()\n"
        "os.chdir(sys.argv[1])\n"
        "os.mkdir('folder')\n"
        "open('file', 'w').close()\n"
        "db = sqlite3.connect('db')\n"
        "db.execute('pragma journal_mode=wal')\n"
        "db.execute('create table t (a)')\n"
        "assert not [e.name for e in os.scandir() if e.stat().st_mode & 0o077], os.listdir()\n"
    )
    argv = [sys.executable, "-c", program, str(tmp_path)]
    subprocess.run(argv, umask=0, timeout=60, check=True)
