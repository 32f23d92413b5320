"""What a device has accepted, and how it ended."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from icebus.worker.device import journal as module
from icebus.worker.device.journal import Journal, StoredOutcome


def test_given_entries_then_they_are_known_until_acknowledged(journal: Journal) -> None:
    journal.accept("r1", [("e1", "one"), ("e2", "two")])
    assert journal.knows("r1", "e1")
    assert not journal.knows("r2", "e1"), "ids belong to their reservation"
    assert journal.without_outcome("r1") == ["one", "two"]
    journal.write_outcome("r1", "e1", "results", "{}")
    assert journal.without_outcome("r1") == ["two"]
    assert journal.outcomes("r1") == [StoredOutcome("e1", "results", "{}", 1)]
    assert journal.acknowledge("r1", ["e1", "nosuch"]) == 1
    assert journal.acknowledge("r1", ["e1"]) == 0
    assert journal.outcomes("r1") == []
    assert journal.knows("r1", "e1"), "or it would be measured again"
    assert journal.outcome("r1", "e1") == StoredOutcome("e1", "results", "{}", 1)


def test_given_one_entry_that_is_known_then_none_of_the_call_is_accepted(
    journal: Journal,
) -> None:
    journal.accept("r1", [("e2", "two")])
    with pytest.raises(sqlite3.IntegrityError):
        journal.accept("r1", [("e1", "one"), ("e2", "again"), ("e3", "three")])
    assert journal.without_outcome("r1") == ["two"]
    journal.accept("r1", [("e1", "one")])


def test_given_an_outcome_then_a_later_one_changes_nothing(journal: Journal) -> None:
    journal.accept("r1", [("e1", "one")])
    journal.write_outcome("r1", "e1", "results", "first")
    journal.write_outcome("r1", "e1", "failures", "second")
    assert journal.outcomes("r1") == [StoredOutcome("e1", "results", "first", 1)]


def test_given_no_outcome_then_an_acknowledgement_forgets_nothing(journal: Journal) -> None:
    journal.accept("r1", [("e1", "one")])
    assert journal.acknowledge("r1", ["e1"]) == 0
    assert journal.without_outcome("r1") == ["one"]


def test_given_another_reservation_then_what_is_over_is_forgotten(journal: Journal) -> None:
    journal.accept("r1", [("e1", "one"), ("e2", "two")])
    journal.write_outcome("r1", "e1", "results", "{}")
    journal.accept("r2", [("e1", "other")])
    journal.keep_only("r2")
    assert journal.without_outcome("r1") == []
    assert journal.outcomes("r1") == []
    assert journal.without_outcome("r2") == ["other"]
    journal.keep_only(None)
    assert journal.without_outcome("r2") == []


def test_given_a_journal_that_was_never_closed_then_it_survives(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "j.sqlite"
    first = Journal(path)
    first.accept("r1", [("e1", "one"), ("e2", "two")])
    first.write_outcome("r1", "e2", "failures", "why")
    second = Journal(path)  # as after a kill: nothing was closed, nothing is lost
    assert second.without_outcome("r1") == ["one"]
    assert second.outcomes("r1") == [StoredOutcome("e2", "failures", "why", 2)]
    second.close()
    first.close()


def test_given_a_client_that_never_acknowledges_then_the_oldest_outcomes_go(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 10)
    monkeypatch.setattr(module, "PRUNE_EVERY", 1)
    for number in range(30):
        journal.accept("r1", [(f"e{number}", "entry")])
        journal.write_outcome("r1", f"e{number}", "results", "{}")
    journal.accept("r1", [("waiting", "entry")])
    kept = [outcome.evaluation for outcome in journal.outcomes("r1")]
    assert len(kept) <= 10
    assert kept[-1] == "e29"
    assert journal.knows("r1", "waiting")


def test_given_what_was_acknowledged_then_it_is_remembered_for_a_while(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 5)
    monkeypatch.setattr(module, "PRUNE_EVERY", 1)
    for number in range(20):
        journal.accept("r1", [(f"e{number}", "entry")])
        journal.write_outcome("r1", f"e{number}", "results", "{}")
        if number:
            journal.acknowledge("r1", [f"e{number}"])
    assert [outcome.evaluation for outcome in journal.outcomes("r1")] == ["e0"]
    remembered = [number for number in range(1, 20) if journal.knows("r1", f"e{number}")]
    assert remembered == list(range(15, 20))


def test_given_a_failure_that_is_tried_again_then_its_next_outcome_takes_its_place(
    journal: Journal,
) -> None:
    journal.accept("r1", [("e1", "one")])
    journal.write_outcome("r1", "e1", "failures", "why")
    journal.accept("r1", [("e1", "once more")], again=["e1"])
    assert journal.without_outcome("r1") == ["once more"]
    journal.write_outcome("r1", "e1", "results", "{}")
    assert [outcome.event for outcome in journal.outcomes("r1")] == ["results"]


def test_given_a_journal_of_an_older_version_then_it_is_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    old = sqlite3.connect(path)
    old.execute(
        "CREATE TABLE evaluations (position INTEGER PRIMARY KEY, reservation TEXT NOT NULL, "
        "evaluation TEXT NOT NULL, entry TEXT NOT NULL, event TEXT, outcome TEXT, "
        "UNIQUE (reservation, evaluation))"
    )
    old.execute("INSERT INTO evaluations VALUES (1, 'r1', 'e1', 'one', 'results', '{}')")
    old.commit()
    old.close()
    journal = Journal(path)
    assert journal.acknowledge("r1", ["e1"]) == 1
    journal.close()


def test_given_work_for_days_then_the_files_stay_small(tmp_path: Path) -> None:
    path = tmp_path / "device.sqlite"
    journal = Journal(path)
    entry = "x" * 1500
    sizes = []
    for number in range(1500):
        name = f"e{number}"
        journal.accept("r1", [(name, entry)])
        journal.write_outcome("r1", name, "results", entry)
        journal.acknowledge("r1", [name])
        sizes.append(path.with_name("device.sqlite-wal").stat().st_size)
    journal.close()
    assert max(sizes) < 2 << 20
    assert path.stat().st_size < 4 << 20


def test_given_a_batch_that_needed_much_room_when_it_is_over_then_the_disk_has_it_back(
    tmp_path: Path,
) -> None:
    path = tmp_path / "device.sqlite"
    journal = Journal(path)
    for batch in range(40):
        journal.accept("r1", [(f"e{batch}-{each}", "x" * 2000) for each in range(100)])
    journal.close()
    full = path.stat().st_size
    journal = Journal(path)
    for number in range(12):
        journal.accept(f"s{number}", [("e", "x")])
        journal.keep_only(f"t{number}")
    journal.close()
    assert full > 6 << 20
    assert path.stat().st_size < 1 << 20


def test_given_a_journal_of_an_earlier_version_then_it_gives_room_back_too(tmp_path: Path) -> None:
    path = tmp_path / "device.sqlite"
    with sqlite3.connect(path) as older:
        older.execute("PRAGMA journal_mode=WAL")
        older.executescript(module._TABLES)
        older.execute(
            "INSERT INTO evaluations (reservation, evaluation, entry) VALUES ('r','e','x')"
        )
    older.close()
    journal = Journal(path)
    assert journal.without_outcome("r") == ["x"]
    journal.close()
    with sqlite3.connect(path) as now:
        assert now.execute("PRAGMA auto_vacuum").fetchone() == (module._INCREMENTAL,)
    now.close()
