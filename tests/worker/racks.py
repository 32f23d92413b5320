"""A rack of virtual boards that tests plug, unplug and break."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.worker.waiting import TIMEOUT, eventually

from icebus.schemas.boards.rack import (
    RackBoard,
    RackFile,
    edit_rack_file,
    read_boards,
    write_rack_file,
)


class Rack:
    """The process of a rack, and what may be done to it."""

    def __init__(self, directory: Path, boards: list[RackBoard], **options: object) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        write_rack_file(directory, RackFile(boards=tuple(boards)))
        command = [sys.executable, "-m", "icebus.rack.cli", "run", "-d", str(directory)]
        settings = {
            "window": 0.05,
            "load": 0,
            "unpack": 0,
            "bandwidth": 0,
            "absence": 0.01,
            "processes": 1,
            **options,
        }
        for name, value in settings.items():
            command += [f"--{name}", str(value)]
        self.process = subprocess.Popen(command)

    def wait(self) -> None:
        wanted = {board.serial for board in self.boards}
        eventually(
            lambda: {board.serial for board in read_boards(self.directory)} >= wanted, "the rack"
        )

    @property
    def boards(self) -> tuple[RackBoard, ...]:
        return edit_rack_file(self.directory, lambda rack: rack).boards

    def plug(self, board: RackBoard) -> None:
        edit_rack_file(self.directory, lambda rack: RackFile(boards=(*rack.boards, board)))

    def change(self, how: Callable[[RackBoard], dict[str, Any]]) -> None:
        """Change what ``how`` gives of each board."""
        edit_rack_file(
            self.directory,
            lambda rack: RackFile(
                boards=tuple(board.model_copy(update=how(board)) for board in rack.boards)
            ),
        )

    def unplug(self, serial: str) -> None:
        edit_rack_file(
            self.directory,
            lambda rack: RackFile(boards=tuple(b for b in rack.boards if b.serial != serial)),
        )

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """No board does anything meanwhile."""
        status = Path(f"/proc/{self.process.pid}/stat")
        self.process.send_signal(signal.SIGSTOP)
        eventually(lambda: status.read_text().rsplit(")", 1)[1].split()[0] == "T", "the rack")
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(TIMEOUT)


def rack_board(number: int, firmware: str = "pulse_count") -> RackBoard:
    return RackBoard(port=f"1-1.{number}", serial=f"BOARD{number}", firmware=firmware)
