"""A serial port that is never waited for."""

from __future__ import annotations

import errno
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import serial

from icebus.schemas.deadline import Deadline
from icebus.worker.hardware import flashing
from icebus.worker.hardware.port import Port, connect
from icebus.worker.loop import Loop

if TYPE_CHECKING:
    from tests.worker.scripted_board import ScriptedBoard

T = TypeVar("T")
MUCH = 500_000

ON_THE_WAY = 4096
"""Bytes that have reached the board's end of a PTY can't be taken back, as with USB."""


def test_given_no_right_to_a_port_then_the_error_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise serial.SerialException(errno.EPERM, "could not open port")

    monkeypatch.setattr(serial, "Serial", refuse)
    with pytest.raises(PermissionError, match=r"no right to open .*: install icebus's udev rules"):
        connect(tmp_path)


class Host:
    """A port on a loop, and what it has told."""

    def __init__(self, path: Path) -> None:
        self.loop = Loop("host")
        self.loop.start()
        self.heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.lost: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.port = self.on_loop(
            lambda: Port(self.loop, connect(path), self.heard.put, self.lost.put)
        )

    def on_loop(self, step: Callable[[], T]) -> T:
        """Run ``step`` on the loop; what it takes longer than a moment, it must not."""
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def run() -> None:
            begun = time.monotonic()
            try:
                answers.put((step(), time.monotonic() - begun))
            except Exception as error:  # noqa: BLE001 - the test is told
                answers.put((error, 0))

        self.loop.post(run)
        answer, took = answers.get(timeout=30)
        if isinstance(answer, Exception):
            raise answer
        assert took < 1, "the loop was blocked"
        result: T = answer
        return result

    def stop(self) -> None:
        self.on_loop(self.port.close)
        assert self.loop.stop(Deadline.after(5))


@pytest.fixture
def host(scripted_board: ScriptedBoard) -> Iterator[Host]:
    made = Host(scripted_board.path)
    yield made
    made.stop()


def test_given_much_to_send_then_the_board_gets_all_in_order_and_the_loop_stays_free(
    host: Host, scripted_board: ScriptedBoard
) -> None:
    sent = threading.Event()
    data = os.urandom(MUCH)
    host.on_loop(lambda: host.port.send(data, sent.set))
    assert host.on_loop(lambda: host.port.sending), "the kernel does not hold that much"
    scripted_board.say("hello")
    assert host.heard.get(timeout=5) == b"hello\r\n", "heard while sending"
    assert scripted_board.take(MUCH) == data
    assert sent.wait(5)
    assert not host.on_loop(lambda: host.port.sending)


def test_given_little_to_send_then_it_is_told_later_and_the_port_is_sending_until_then(
    host: Host, scripted_board: ScriptedBoard
) -> None:
    sent: queue.SimpleQueue[str] = queue.SimpleQueue()

    def send() -> tuple[bool, bool]:
        host.port.send(b"x", lambda: sent.put("told"))
        return sent.empty(), host.port.sending

    assert host.on_loop(send) == (True, True)
    assert sent.get(timeout=5) == "told"
    assert not host.on_loop(lambda: host.port.sending)
    assert scripted_board.take(1) == b"x"
    host.on_loop(lambda: host.port.send(b"y"))
    assert not host.on_loop(lambda: host.port.sending), "nobody has to be told"


@pytest.mark.parametrize("end", ["discard", "close"])
def test_given_a_send_that_ends_before_it_is_told_then_it_is_never(host: Host, end: str) -> None:
    sent: queue.SimpleQueue[str] = queue.SimpleQueue()

    def send_and_end() -> None:
        host.port.send(b"x", lambda: sent.put("first"))
        getattr(host.port, end)()
        if end == "discard":
            host.port.send(b"y", lambda: sent.put("second"))

    host.on_loop(send_and_end)
    host.on_loop(lambda: None)
    assert [sent.get_nowait() for _ in range(sent.qsize())] == ["second"] * (end == "discard")


def test_given_a_port_that_is_sending_then_a_second_send_is_refused(
    host: Host, scripted_board: ScriptedBoard
) -> None:
    host.on_loop(lambda: host.port.send(bytes(MUCH)))
    with pytest.raises(RuntimeError):
        host.on_loop(lambda: host.port.send(b"x"))


def test_given_a_send_when_discarded_then_the_board_gets_no_more_and_the_next_is_whole(
    host: Host, scripted_board: ScriptedBoard
) -> None:
    never = threading.Event()
    host.on_loop(lambda: host.port.send(b"\1" * MUCH, never.set))
    scripted_board.take(1000)
    host.on_loop(host.port.discard)
    assert scripted_board.pending(0.05) < ON_THE_WAY, "most of what the kernel held is gone as well"
    host.on_loop(lambda: host.port.send(b"\2" * MUCH))
    assert scripted_board.take(MUCH) == b"\2" * MUCH
    assert not never.is_set()


def test_given_a_send_when_unplugged_then_the_loss_is_told_once(
    host: Host, scripted_board: ScriptedBoard
) -> None:
    host.on_loop(lambda: host.port.send(bytes(MUCH)))
    scripted_board.take(1000)
    scripted_board.close()
    assert host.lost.get(timeout=5)
    host.on_loop(host.port.close)
    host.on_loop(host.port.discard)
    assert host.lost.empty()


def test_given_an_idle_port_when_unplugged_then_the_loss_is_told(
    host: Host, scripted_board: ScriptedBoard
) -> None:
    scripted_board.close()
    assert host.lost.get(timeout=5)


def test_given_a_board_that_takes_nothing_when_closed_then_nothing_blocks(
    host: Host, scripted_board: ScriptedBoard
) -> None:
    host.on_loop(lambda: host.port.send(bytes(MUCH)))
    host.on_loop(host.port.close)
    assert host.lost.empty()


def test_given_a_closed_port_then_no_descriptor_is_left(scripted_board: ScriptedBoard) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        Host(scripted_board.path).stop()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_given_no_such_port_then_it_is_an_os_error(tmp_path: Path) -> None:
    loop = Loop("host")
    with pytest.raises(OSError, match="No such file"):
        connect(tmp_path / "tty")
    loop.start()
    assert loop.stop(Deadline.after(5))


def test_given_a_board_that_leaves_while_its_port_is_set_up_then_it_is_an_os_error(
    scripted_board: ScriptedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    import termios

    def gone(*_: object) -> None:
        raise termios.error(5, "Input/output error")

    loop = Loop("host")
    monkeypatch.setattr(termios, "tcsetattr", gone)
    with pytest.raises(OSError, match="Input/output error"):
        connect(scripted_board.path)
    flashing.touch(scripted_board.path)  # there, it means that the board has done as asked
    loop.start()
    assert loop.stop(Deadline.after(5))


def test_given_a_touch_then_the_port_is_left_at_1200_baud(
    scripted_board: ScriptedBoard, baud: Callable[[Path], int]
) -> None:
    import termios

    keep = os.open(scripted_board.path, os.O_RDWR | os.O_NOCTTY)
    flashing.touch(scripted_board.path)
    assert baud(scripted_board.path) == termios.B1200
    os.close(keep)


def test_given_no_board_then_a_touch_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        flashing.touch(tmp_path / "tty")
