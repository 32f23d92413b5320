"""Which farms are taken for running, whatever files say that others have left."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer

from icebus.client._profiles.farm_directory import lock_path, usual_directory
from icebus.client.cli.commands.this_machine.down import running_farm
from icebus.client.cli.exit_codes import NOT_FOUND
from icebus.client.local_farm.running_farms import (
    RunningFarm,
    end,
    farm_file,
    find_farm,
    forget,
    running_farms,
    started_at,
    tell,
)
from icebus.schemas.errors import Conflict, NoProfile


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which nothing runs."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """What `icebus up` holds while it runs."""
    directory.mkdir(parents=True, exist_ok=True)
    with lock_path(directory).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def farm(directory: Path, pid: int | None = None, began: int | None = None) -> RunningFarm:
    """What a farm of this process says of itself, unless something else is said."""
    pid = os.getpid() if pid is None else pid
    directory.mkdir(parents=True, exist_ok=True)
    return RunningFarm(
        directory=directory,
        pid=pid,
        began=started_at(pid) if began is None else began,
        since=datetime(2026, 11, 28, tzinfo=UTC),
        ready=True,
        boards=4,
        usb=False,
        users=("ann",),
        broker="127.0.0.1:1883",
        log=None,
    )


def test_given_a_farm_that_says_that_it_runs_when_its_lock_is_held_then_it_does(
    home: Path,
) -> None:
    told = farm(home / "lab")
    tell(told)
    assert running_farms() == []
    with locked(told.directory):
        tell(told)
        assert running_farms() == [told]
        assert find_farm("lab") == find_farm(str(home / "lab")) == find_farm(None) == told
        forget(told.directory)
        assert not farm_file(told.directory).exists()
        with pytest.raises(Conflict, match="only just starting"):
            find_farm(str(home / "lab"))
    with pytest.raises(NoProfile, match="up --detach"):
        find_farm(None)


def test_given_a_farm_that_was_killed_when_another_process_has_its_pid_then_that_is_left_alone(
    home: Path,
) -> None:
    if not started_at(os.getpid()):
        pytest.skip("this system does not tell when processes were started")
    killed = farm(home / "lab", began=1)
    tell(killed)
    with locked(killed.directory):
        assert not killed.runs
        end(killed)  # we live
        assert running_farms() == []


def test_given_several_farms_when_none_is_named_then_the_usual_one_is_meant_else_that_is_asked(
    home: Path,
) -> None:
    first, second, usual = farm(home / "a"), farm(home / "b"), farm(usual_directory())
    with locked(first.directory), locked(second.directory):
        tell(first)
        tell(second)
        with pytest.raises(Conflict, match="several farms"):
            find_farm(None)
        with locked(usual.directory):
            tell(usual)
            assert find_farm(None) == usual
            assert running_farms()[0].directory == usual.directory
            with pytest.raises(NoProfile, match=str(home / "a")):
                find_farm("c")


def test_given_a_directory_when_its_farm_is_asked_for_then_no_other_of_that_name_is_meant(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = farm(home / "a" / "lab"), farm(home / "b" / "lab")
    monkeypatch.chdir(home / "b")
    with locked(first.directory), locked(second.directory):
        tell(first)
        tell(second)
        assert running_farm(None, home / "a" / "lab") == first
        assert running_farm(None, Path("lab")) == second
        for wrong in (home / "lab", home / ("x" * 300)):
            with pytest.raises(typer.Exit) as ended:
                running_farm(None, wrong)
            assert ended.value.exit_code == NOT_FOUND
        with pytest.raises(typer.BadParameter):
            running_farm("lab", first.directory)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"pid": "x"}', b"[" * 100_000])
def test_given_a_file_that_says_nothing_when_read_then_no_farm_runs(
    home: Path, content: bytes
) -> None:
    with locked(usual_directory()):
        farm_file(usual_directory()).write_bytes(content)
        assert running_farms() == []
