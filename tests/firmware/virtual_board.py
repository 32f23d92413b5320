"""A virtual board for the tests that an emulated one has to pass: a faithful fake passes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import serial
from tests.firmware.emulated_board import DEADLINE, Host
from tests.worker.racks import Rack
from tests.worker.waiting import eventually

from icebus.schemas.boards.rack import BoardFile, Mode, RackBoard, read_board_file

SPEC: Final = RackBoard(port="1-1.1", serial="E6616407E308B9E2", firmware="icebus")


@dataclass(frozen=True)
class SerialPort:
    """A board's pseudo-terminal, opened as a worker opens it."""

    connection: serial.Serial

    def write(self, data: bytes | bytearray) -> None:
        self.connection.write(data)

    def read(self, timeout: float = DEADLINE) -> bytes:
        try:
            self.connection.timeout = timeout
            return bytes(self.connection.read(max(1, self.connection.in_waiting)))
        except OSError:  # the board is gone
            return b""


@dataclass
class VirtualBoard:
    """A board in a rack of its own."""

    rack: Rack
    session: str = ""
    connection: serial.Serial | None = None

    @property
    def folder(self) -> Path:
        return self.rack.directory / SPEC.port

    def wait_for(self, event: str) -> dict[str, Any]:
        """The board once it has come up anew in the mode of that name."""

        def came_up() -> BoardFile | None:
            board = read_board_file(self.folder)
            anew = board is not None and board.session != self.session
            return board if anew and board and board.mode is Mode(event) else None

        board = eventually(came_up, event)
        assert board is not None
        self.session = board.session
        return {"serial": board.serial, "product": board.product}

    def command(self, name: str, **_how: Any) -> None:
        """Switch its power off and on; nothing else can be done to a virtual board."""
        assert name == "power"
        self.rack.unplug(SPEC.serial)
        eventually(lambda: not self.folder.exists(), "its end")
        self.rack.plug(SPEC)

    def set_baud(self, rate: int) -> None:
        """Set the line of whoever has the port open."""
        assert self.connection is not None
        self.connection.baudrate = rate

    @contextmanager
    def opened(self) -> Iterator[Host]:
        """A host that has opened the port."""
        with serial.Serial(str(self.folder / "tty"), timeout=DEADLINE) as self.connection:
            yield Host(SerialPort(self.connection))


@contextmanager
def virtual_board(directory: Path) -> Iterator[VirtualBoard]:
    """A board that was just plugged."""
    rack = Rack(directory, [SPEC], load=0.0359, unpack=0.0154, bandwidth=1_000_000)
    try:
        board = VirtualBoard(rack)
        board.wait_for("application")
        yield board
    except OSError as error:
        pytest.fail(f"the rack has no such board: {error}")
    finally:
        rack.stop()
