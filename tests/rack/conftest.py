from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import serial

from icebus.rack.firmware import Evaluation, FirmwareSettings
from icebus.rack.layout import ChipChoice, layout, seeded
from icebus.rack.loop import Loop
from icebus.rack.rack import Rack
from icebus.rack.settings import BoardSettings
from icebus.rack.verdict import Verdict
from icebus.schemas.boards.rack import BoardFile, Mode, read_board_file, write_rack_file

DEADLINE = 10.0


T = TypeVar("T")


def eventually(get: Callable[[], T], what: str = "it") -> T:
    """What ``get`` gives once that is true."""
    end = time.monotonic() + DEADLINE
    while not (value := get()):
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come")
        time.sleep(0.002)
    return value


class FakeEvaluator:
    """Counts the bytes that are 1, on the loop's own thread."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.seen: list[tuple[Evaluation, int]] = []

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def submit(self, evaluation: Evaluation, seed: int, done: Callable[[Verdict], None]) -> None:
        self.seen.append((evaluation, seed))
        verdict = Verdict.of(*[evaluation.bitstream.count(1)] * len(evaluation.pins))
        self.loop.call_soon(partial(done, verdict))


class RunningRack:
    """A rack on a thread of its own, and what a host sees of it."""

    def __init__(self, directory: Path, settings: BoardSettings) -> None:
        self.directory = directory
        self.evaluators: list[FakeEvaluator] = []
        self.rack = Rack(directory, settings, self._make_evaluator)
        self.thread = threading.Thread(target=self.rack.run, name="rack")
        self.thread.start()

    def _make_evaluator(self, loop: Loop) -> FakeEvaluator:
        self.evaluators.append(FakeEvaluator(loop))
        return self.evaluators[-1]

    def stop(self) -> None:
        self.rack.stop()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()

    def wait_until(self, true: Callable[[], object]) -> None:
        eventually(true)

    def wait_gone(self, port: str = "1-1.1") -> None:
        eventually(lambda: not self.folder(port).exists(), f"the end of {port}")

    def folder(self, port: str = "1-1.1") -> Path:
        return self.directory / port

    def board(self, port: str = "1-1.1") -> BoardFile | None:
        return read_board_file(self.folder(port))

    def wait_for(self, mode: Mode, port: str = "1-1.1", other_than: str = "") -> BoardFile:
        """The board once it is in that mode, enumerated anew since ``other_than``."""

        def found() -> BoardFile | None:
            board = self.board(port)
            ok = board and board.mode is mode and board.session != other_than
            return board if ok else None

        board = eventually(found, f"{port} as {mode}")
        assert board
        return board

    def open(self, port: str = "1-1.1") -> serial.Serial:
        """The board's serial port, opened as a worker would."""
        self.wait_for(Mode.APPLICATION, port)
        return serial.Serial(str(self.folder(port) / "tty"), timeout=DEADLINE)

    def touch(self, port: str = "1-1.1") -> BoardFile:
        """Reset the board into its bootloader."""
        before = self.wait_for(Mode.APPLICATION, port)
        with contextlib.suppress(OSError):  # it may be gone before all is set
            serial.Serial(str(self.folder(port) / "tty"), 1200).close()
        return self.wait_for(Mode.BOOTLOADER, port, before.session)


@pytest.fixture
def start_rack(tmp_path: Path) -> Iterator[Callable[..., RunningRack]]:
    """Start racks; they are stopped at the end."""
    racks: list[RunningRack] = []

    def start(
        boards: int = 1,
        chips: ChipChoice = ChipChoice.RP2040,
        firmware: str = "pulse_count",
        **settings: float,
    ) -> RunningRack:
        directory = tmp_path / f"rack{len(racks)}"
        directory.mkdir()
        write_rack_file(directory, layout(boards, chips, firmware, seeded(0)))
        rack = RunningRack(
            directory,
            BoardSettings(
                FirmwareSettings(
                    window=settings.get("window", 0.01),
                    watchdog=settings.get("watchdog", 2.0),
                    load=settings.get("load", 0.0),
                    unpack=settings.get("unpack", 0.0),
                    interval=0.02,
                ),
                bandwidth=settings.get("bandwidth", 0),
                absence=settings.get("absence", 0.01),
            ),
        )
        racks.append(rack)
        return rack

    yield start
    for rack in racks:
        rack.stop()
