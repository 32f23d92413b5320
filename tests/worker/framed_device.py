"""A board with our own firmware on a PTY, for a device under test."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time

from tests.worker.framed_board import FramedBoard
from tests.worker.scripted_board import ScriptedBoard


class FramedBoardOnPort:
    """Runs a :class:`FramedBoard` behind a scripted board's port, on a thread, until closed."""

    def __init__(self, port: ScriptedBoard, board: FramedBoard | None = None) -> None:
        self.board = board or FramedBoard()
        self._port = port
        self._wake_read, self._wake_write = os.pipe()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; the port stays."""
        os.write(self._wake_write, b"\0")
        self._thread.join(5.0)
        assert not self._thread.is_alive()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _run(self) -> None:
        while True:
            due = self.board.due
            wait = None if due is None else max(0.0, due - time.monotonic())
            ready, _, _ = select.select([self._port.master, self._wake_read], [], [], wait)
            if self._wake_read in ready:
                return
            if self._port.master in ready:
                try:
                    data = os.read(self._port.master, 1 << 16)
                except OSError:  # the host has the port closed
                    self.board.forget()
                    select.select([self._wake_read], [], [], 0.01)
                else:
                    self.board.receive(time.monotonic(), data)
            self.board.advance(time.monotonic())
            said, self.board.said = bytes(self.board.said), bytearray()
            with contextlib.suppress(OSError):
                self._port.say_bytes(said)
