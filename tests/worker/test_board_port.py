"""Opening a port that opens, that is refused, or whose driver hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import serial

from icebus.schemas.boards.firmware import Chip
from icebus.schemas.boards.rack import Mode
from icebus.schemas.deadline import Deadline
from icebus.worker.device import board_port
from icebus.worker.device.board_port import BoardPort, PortCallbacks
from icebus.worker.device.helper_threads import HelperThreads
from icebus.worker.hardware import port
from icebus.worker.hardware.board import ConnectedBoard
from icebus.worker.hardware.port import Port
from icebus.worker.loop import Loop

if TYPE_CHECKING:
    from tests.worker.scripted_board import ScriptedBoard

pytestmark = pytest.mark.timeout(60)


def board(tty: Path) -> ConnectedBoard:
    return ConnectedBoard("1-1.1", "s1", Chip.RP2040, "S1", tty, None, True, Mode.APPLICATION)


class Opener:
    """An opening on a loop of its own, and how its attempts ended."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.ended: list[object] = []
        tell: Callable[[object], None] = self.ended.append
        callbacks = PortCallbacks(tell, tell, tell, tell, tell, lambda: None)
        self.board_port = BoardPort(loop, HelperThreads(loop, "board"), callbacks)

    def begin(self, board: ConnectedBoard) -> None:
        self.loop.post(lambda: self.board_port.open(board))


@pytest.fixture
def opener() -> Iterator[Opener]:
    loop = Loop("opening")
    loop.start()
    yield Opener(loop)
    assert loop.stop(Deadline.after(30))


def test_given_a_port_then_it_is_opened(
    opener: Opener, scripted_board: ScriptedBoard, eventually: Callable[..., Any]
) -> None:
    opener.begin(board(scripted_board.path))
    eventually(lambda: opener.ended)
    assert opener.ended == [opener.board_port.port]
    assert isinstance(opener.board_port.port, Port)
    opener.loop.post(opener.board_port.close)


def test_given_no_such_port_then_the_error_is_told(
    opener: Opener, tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    opener.begin(board(tmp_path / "tty"))
    eventually(lambda: opener.ended)
    assert "No such file" in str(opener.ended[0])


@pytest.mark.parametrize("given_up", [True, False], ids=["given up", "too late"])
def test_given_a_driver_that_hangs_then_nobody_waits_and_what_it_opens_later_is_closed(
    opener: Opener,
    scripted_board: ScriptedBoard,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., Any],
    given_up: bool,
) -> None:
    go_on, opened = threading.Event(), list[serial.Serial]()
    connect = port.connect

    def hang(path: Path) -> serial.Serial:
        assert go_on.wait(30)
        opened.append(connect(path))
        return opened[0]

    monkeypatch.setattr(port, "connect", hang)
    monkeypatch.setattr(board_port, "OPEN_DEADLINE", 30.0 if given_up else 0.05)
    opener.begin(board(scripted_board.path))
    if given_up:
        opener.loop.post(opener.board_port.close)
    else:
        eventually(lambda: opener.ended)
    go_on.set()
    eventually(lambda: opened and not opened[0].is_open, "the port to be closed again")
    assert len(opener.ended) == (0 if given_up else 1)
    assert all("did not open" in str(end) for end in opener.ended)
