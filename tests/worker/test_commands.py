"""Commands of administrators, each once, whatever the worker goes through."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icebus.schemas.devices import Desired
from icebus.schemas.errors import JournalUnavailable
from icebus.worker.device.commands import Command, Commands
from icebus.worker.device.journal import Journal


def wanted(reboot: int = 0, reflash: int = 0) -> Desired:
    return Desired(serial="S1", generation=1, reboot=reboot, reflash=reflash)


def test_given_no_memory_of_a_device_then_its_numbers_are_taken_as_done(journal: Journal) -> None:
    commands = Commands(lambda: journal)
    assert commands.next(wanted(7, 3)) is None
    assert commands.next(wanted(8, 3)) is Command.REBOOT
    assert commands.next(wanted(8, 3)) is None
    assert Commands(lambda: journal).next(wanted(8, 3)) is None, "another life remembers"


def test_given_both_then_a_reflash_is_a_reboot_too(journal: Journal) -> None:
    commands = Commands(lambda: journal)
    commands.next(wanted())
    assert commands.next(wanted(1, 1)) is Command.REFLASH
    assert commands.next(wanted(1, 1)) is None


def test_given_lower_numbers_then_nothing_is_done(journal: Journal) -> None:
    commands = Commands(lambda: journal)
    commands.next(wanted(5, 5))
    assert commands.next(wanted(4, 0)) is None
    assert commands.next(wanted(5, 5)) is None


def test_given_a_command_that_cant_be_written_down_then_it_is_not_begun_but_kept(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path / "j.sqlite")
    commands = Commands(lambda: journal)
    commands.next(wanted())
    other = Journal(tmp_path / "j.sqlite")
    other._db.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalUnavailable, match="locked"):
        commands.next(wanted(1))
    other._db.execute("ROLLBACK")
    assert commands.next(wanted(1)) is Command.REBOOT
    other.close()
    journal.close()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["reboot", "reflash", "look", "restart"]), max_size=25))
def test_given_any_runs_then_each_command_that_was_seen_is_carried_out_once(
    life: list[str],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        journal = Journal(Path(directory) / "j.sqlite")

        def memory() -> Journal:
            return journal

        commands = Commands(memory)
        commands.next(wanted())
        asked = {"reboot": 0, "reflash": 0}
        pending: set[str] = set()
        for step in life:
            if step in asked:
                asked[step] += 1
                pending.add(step)
            elif step == "restart":
                journal.close()
                journal = Journal(Path(directory) / "j.sqlite")
                commands = Commands(memory)
            else:
                command = commands.next(wanted(**asked))
                hardest = "reflash" if "reflash" in pending else "reboot"
                assert command == (hardest if pending else None)
                pending.clear()
        journal.close()
