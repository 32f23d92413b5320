"""Opening a board's port: it takes milliseconds, or for ever where a driver hangs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import serial

from icebus.worker.device.helper_threads import Helpers
from icebus.worker.hardware import port as ports
from icebus.worker.hardware.board import Board
from icebus.worker.loop import Loop, Timer

OPEN_DEADLINE = 10.0
"""Seconds for opening a port: a driver that needs more hangs."""


class Opening:
    """Opens the port of one device's board, one at a time. Used on the device's loop.

    Each attempt ends in one of the three calls, unless it is given up before.

    Args:
        loop: of the device.
        helpers: whose threads a driver may hang in.
        on_open: called with the open port.
        on_refused: called with the error that the system gave.
        on_hung: called with how long it has taken in vain.
    """

    def __init__(
        self,
        loop: Loop,
        helpers: Helpers,
        on_open: Callable[[serial.Serial], None],
        on_refused: Callable[[Exception], None],
        on_hung: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._helpers = helpers
        self._on_open = on_open
        self._on_refused = on_refused
        self._on_hung = on_hung
        self._board: Board | None = None
        self._alarm: Timer | None = None

    def is_of(self, board: Board) -> bool:
        """Whether the port of ``board``, as it is plugged now, is being opened."""
        return self._board is board

    def begin(self, board: Board) -> None:
        """Open the port of ``board``, which has to show one."""
        self.give_up()
        if board.tty is None:
            raise RuntimeError("the board shows no serial port")
        self._board = board
        self._alarm = self._loop.call_later(OPEN_DEADLINE, partial(self._hung, board))
        self._helpers.run(
            partial(ports.connect, board.tty),
            partial(self._opened, board),
            partial(self._refused, board),
        )

    def give_up(self) -> None:
        """Wait for it no longer; what is opened all the same is closed again."""
        self._board = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _opened(self, board: Board, connection: serial.Serial) -> None:
        if self.is_of(board):
            self.give_up()
            self._on_open(connection)
        else:  # it took so long that nobody waits any more
            self._helpers.run(connection.close, lambda _: None, lambda _: None)

    def _refused(self, board: Board, error: Exception) -> None:
        if self.is_of(board):
            self.give_up()
            self._on_refused(error)

    def _hung(self, board: Board) -> None:
        if self.is_of(board):
            self.give_up()
            self._on_hung(f"its port did not open in {OPEN_DEADLINE:.0f} s")
