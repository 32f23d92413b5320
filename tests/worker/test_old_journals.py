"""Journals of boards that are gone for good."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from icebus.worker.device.journal import Journal
from icebus.worker.old_journals import KEPT_DAYS, remove_old_journals

MONTHS = (KEPT_DAYS + 1) * 86_400


def written(path: Path, seconds_ago: float) -> None:
    """Make a file, and those beside it, look as if they were last written then."""
    for each in path.parent.glob(f"{path.name}*"):
        os.utime(each, (time.time() - seconds_ago,) * 2)


def journal(directory: Path, name: str, seconds_ago: float) -> Path:
    path = directory / f"{name}.sqlite"
    made = Journal(path)
    made.write_nonces({"reboot": 1})
    made.close()
    written(path, seconds_ago)
    return path


def test_given_boards_that_left_then_only_journals_of_long_ago_are_removed(tmp_path: Path) -> None:
    old = journal(tmp_path, "old", MONTHS)
    recent = journal(tmp_path, "recent", MONTHS - 2 * 86_400)
    here = journal(tmp_path, "here", MONTHS)

    removed = remove_old_journals(tmp_path, {"here"})

    assert removed == ["old"]
    assert (old.exists(), recent.exists(), here.exists()) == (False, True, True)


def test_given_a_journal_of_a_worker_that_was_killed_then_its_log_goes_too(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    running = Journal(path)
    running.write_nonces({"reboot": 1})
    left = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    running.close()
    for name, content in left.items():
        (tmp_path / name).write_bytes(content)
    written(path, MONTHS)

    remove_old_journals(tmp_path, ())

    assert list(tmp_path.iterdir()) == []


def test_given_a_log_that_was_written_lately_then_the_journal_stays(tmp_path: Path) -> None:
    path = journal(tmp_path, "a", MONTHS)
    path.with_name("a.sqlite-wal").touch()

    assert remove_old_journals(tmp_path, ()) == []
    assert path.exists()


def test_given_files_of_others_in_the_folder_then_they_stay(tmp_path: Path) -> None:
    others = tmp_path / "others.sqlite"
    with sqlite3.connect(others) as connection:
        connection.execute("CREATE TABLE thoughts (text)")
    connection.close()
    text = tmp_path / "text.sqlite"
    text.write_text("no database at all" * 100)
    (tmp_path / "link.sqlite").symlink_to(journal(tmp_path.parent, "elsewhere", MONTHS))
    (tmp_path / "folder.sqlite").mkdir()
    for each in (others, text, tmp_path / "folder.sqlite"):
        written(each, MONTHS)

    assert remove_old_journals(tmp_path, ()) == []
    assert len(list(tmp_path.iterdir())) == 4


def test_given_no_folder_then_there_is_nothing_to_remove(tmp_path: Path) -> None:
    assert remove_old_journals(tmp_path / "missing", ()) == []
