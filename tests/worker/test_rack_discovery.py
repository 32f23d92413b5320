"""What the worker learns of the boards in a rack's directory."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import (
    BOOT,
    BoardFile,
    Mode,
    read_board_file,
    remove_board_file,
    write_board_file,
)
from icebus.worker.hardware.board import Snapshot
from icebus.worker.hardware.rack import RackDiscovery

TIMEOUT = 20.0


class Seen:
    """Where a discovery reports to."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.snapshot: Snapshot = []

    def __call__(self, snapshot: Snapshot) -> None:
        with self._changed:
            self.snapshot = snapshot
            self._changed.notify_all()

    def wait_sessions(self, *sessions: str) -> None:
        def there() -> bool:
            return [board.session for board in self.snapshot] == list(sessions)

        with self._changed:
            assert self._changed.wait_for(there, TIMEOUT), f"{self.snapshot} is not {sessions}"


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[Seen]:
    seen, discovery = Seen(), RackDiscovery(tmp_path)
    discovery.start(seen)
    yield seen
    discovery.stop()


def enumerate_board(directory: Path, session: str, mode: Mode = Mode.APPLICATION) -> Path:
    folder = directory / "1-1.2"
    (folder / BOOT).mkdir(parents=True, exist_ok=True)
    board = BoardFile(
        port="1-1.2",
        serial="S1",
        vid=0x1209,
        pid=0xB1C0,
        product="pico-ice",
        chip=Chip.RP2040,
        mode=mode,
        session=session,
    )
    write_board_file(folder, board)
    return folder


def test_given_a_board_when_it_comes_changes_and_goes_then_each_is_seen(
    tmp_path: Path, seen: Seen
) -> None:
    folder = enumerate_board(tmp_path, "one")
    seen.wait_sessions("one")
    enumerate_board(tmp_path, "two", Mode.BOOTLOADER)
    seen.wait_sessions("two")
    remove_board_file(folder)
    seen.wait_sessions()


def test_given_an_emulated_board_then_the_worker_is_told_so_and_how_slow_it_is(
    tmp_path: Path, seen: Seen
) -> None:
    folder = enumerate_board(tmp_path, "one")
    found = read_board_file(folder)
    assert found is not None
    changed = found.model_copy(update={"session": "two", "emulated": True, "slowness": 4.0})
    write_board_file(folder, changed)
    seen.wait_sessions("two")
    [board] = seen.snapshot
    assert board.virtual
    assert not board.takes_markers
    assert board.slowness == 4.0
    assert board.labels == {"emulated": "true"}


def test_given_a_board_that_comes_and_goes_hundreds_of_times_then_the_last_state_is_seen(
    tmp_path: Path, seen: Seen
) -> None:
    for number in range(600):
        folder = enumerate_board(tmp_path, f"early-{number}")
        shutil.rmtree(folder / BOOT)
        if number % 3 == 0:
            remove_board_file(folder)
            shutil.rmtree(folder)
    enumerate_board(tmp_path, "last")
    seen.wait_sessions("last")
