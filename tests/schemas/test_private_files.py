"""Locks, logs and journals in folders that others may write to: no link is followed."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from icebus.broker.claim import Claim
from icebus.broker.process import Child
from icebus.control.store.database import Database
from icebus.rack.lock import RackLock, is_running
from icebus.rack.pty import PtyPort
from icebus.schemas.boards.rack import LOCK_FILE, edit_rack_file
from icebus.schemas.errors import InvalidRequest, JournalUnavailable
from icebus.schemas.programs.private_files import (
    make_private_folder,
    narrow,
    open_private,
    write_private,
)
from icebus.worker.device.journal import Journal
from icebus.worker.hardware.usb.port_memory import PortMemory

TREASURE = "what somebody else needs\n"


@pytest.fixture
def treasure(tmp_path: Path) -> Path:
    path = tmp_path / "treasure"
    path.write_text(TREASURE)
    path.chmod(0o644)
    return path


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    path = tmp_path / "shared"
    path.mkdir()
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def edit_lock_name(folder: Path) -> str:
    edit_rack_file(folder, lambda rack: rack)
    return next(each.name for each in folder.iterdir() if "lock" in each.name)


@pytest.mark.parametrize(
    ("name", "use"),
    [
        (LOCK_FILE, RackLock),
        ("broker.pid", lambda folder: Claim(folder).take()),
        ("some.log", lambda folder: Child(["true"], folder / "some.log")),
        ("board.journal", lambda folder: Journal(folder / "board.journal")),
    ],
)
def test_given_a_link_in_a_files_place_when_it_is_used_then_it_is_refused_and_not_followed(
    shared: Path, treasure: Path, name: str, use: Callable[[Path], object]
) -> None:
    (shared / name).symlink_to(treasure)

    with pytest.raises((InvalidRequest, JournalUnavailable), match="not followed"):
        use(shared)

    assert treasure.read_text() == TREASURE
    assert mode(treasure) == 0o644


def test_given_a_link_in_place_of_the_edit_lock_when_a_rack_is_edited_then_it_is_refused(
    tmp_path: Path, shared: Path, treasure: Path
) -> None:
    (shared / edit_lock_name(tmp_path / "other")).symlink_to(treasure)

    with pytest.raises(InvalidRequest, match="not followed"):
        edit_rack_file(shared, lambda rack: rack)

    assert treasure.read_text() == TREASURE


def test_given_a_link_to_nothing_when_it_is_opened_then_nothing_is_made_there(
    tmp_path: Path, shared: Path
) -> None:
    (shared / "lock").symlink_to(tmp_path / "made")

    with pytest.raises(InvalidRequest):
        open_private(shared / "lock")

    assert not (tmp_path / "made").exists()


def test_given_a_link_in_the_racks_lock_when_asked_whether_one_runs_then_none_does(
    shared: Path, treasure: Path
) -> None:
    (shared / LOCK_FILE).symlink_to(treasure)

    assert not is_running(shared)


def test_given_links_in_the_port_memorys_places_when_saved_then_none_is_followed(
    shared: Path, treasure: Path
) -> None:
    (shared / "ports.json").symlink_to(treasure)
    (shared / "ports.new").symlink_to(treasure)

    PortMemory(shared / "ports.json").save({})

    assert treasure.read_text() == TREASURE
    assert not (shared / "ports.json").is_symlink()


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_WRONLY | os.O_APPEND])
def test_given_a_pipe_a_socket_or_a_folder_when_opened_then_it_is_refused_at_once(
    shared: Path, flags: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shared)  # the path of a socket has to be short
    os.mkfifo("pipe")
    (shared / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        for name in ("pipe", "socket", "folder"):
            with pytest.raises(InvalidRequest, match="not a file"):
                open_private(shared / name, flags)


def test_given_a_file_that_others_can_read_when_opened_then_it_is_narrowed(shared: Path) -> None:
    path = shared / "board.journal"
    path.touch()
    path.chmod(0o666)

    os.close(open_private(path))

    assert mode(path) == 0o600


def test_given_any_umask_when_a_file_is_made_then_it_is_its_owners_only(shared: Path) -> None:
    before = os.umask(0)
    try:
        os.close(open_private(shared / "opened"))
        write_private(shared / "written", "text")
    finally:
        os.umask(before)

    assert mode(shared / "opened") == mode(shared / "written") == 0o600


def test_given_no_umask_when_folders_are_made_then_none_of_them_is_open_to_others(
    shared: Path,
) -> None:
    before = os.umask(0)
    try:
        make_private_folder(shared / "a" / "b" / "c")
        make_private_folder(shared / "a" / "b" / "c")
    finally:
        os.umask(before)

    assert {mode(shared / each) for each in ("a", "a/b", "a/b/c")} == {0o700}


def test_given_open_files_and_a_link_when_a_folder_is_narrowed_then_the_links_end_is_as_it_was(
    shared: Path, treasure: Path
) -> None:
    (shared / "in").mkdir()
    (shared / "in" / "file").touch()
    (shared / "in" / "link").symlink_to(treasure)
    for each in (shared / "in" / "file", shared / "in", shared):
        each.chmod(0o777)

    narrow(shared)

    assert {mode(shared / each) for each in ("", "in", "in/file")} == {0o700}
    assert mode(treasure) == 0o644
    narrow(shared / "missing")


def test_given_a_database_that_others_can_read_when_control_opens_it_then_it_is_narrowed(
    shared: Path,
) -> None:
    path = shared / "control.db"
    for suffix in ("", "-wal"):
        open_to_all = shared / f"control.db{suffix}"
        open_to_all.touch()
        open_to_all.chmod(0o666)

    Database(f"sqlite:///{path}").close()

    assert {mode(each) for each in shared.iterdir()} == {0o600}


def test_given_a_boards_port_when_it_is_made_then_only_its_owner_may_open_it() -> None:
    assert mode(Path(PtyPort().path)) == 0o600
