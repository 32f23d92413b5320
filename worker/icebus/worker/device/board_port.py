"""The port of a device's board. Opening it takes milliseconds, or for ever where a driver hangs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import serial

from icebus.schemas.programs.logs import about
from icebus.worker.device.helper_threads import PREFIX, HelperThreads
from icebus.worker.hardware import port as ports
from icebus.worker.hardware.board import ConnectedBoard
from icebus.worker.hardware.port import Port
from icebus.worker.loop import Loop, Timer

log = logging.getLogger(__name__)

OPEN_DEADLINE = 10.0
"""Seconds for opening a port: a driver that needs more hangs."""


@dataclass(frozen=True)
class PortCallbacks:
    """Callbacks of a board's port. Opening ends in one of the first four, unless it is given up.

    Attributes:
        on_open: called with the open port.
        on_refused: called with the reason that the system gave.
        on_held: called with who has locked it.
        on_hung: called with how long it has taken in vain.
        on_data: called with what the board says.
        on_lost: called when the port is gone.
    """

    on_open: Callable[[Port], None]
    on_refused: Callable[[str], None]
    on_held: Callable[[str], None]
    on_hung: Callable[[str], None]
    on_data: Callable[[bytes], None]
    on_lost: Callable[[], None]


class BoardPort:
    """Opens the port of one device's board, and holds it. Used on the device's loop.

    Args:
        loop: of the device.
        threads: where a driver may hang.
        callbacks: to the device.

    Attributes:
        port: while it is open.
    """

    def __init__(self, loop: Loop, threads: HelperThreads, callbacks: PortCallbacks) -> None:
        self.port: Port | None = None
        self._loop = loop
        self._threads = threads
        self._callbacks = callbacks
        self._opening: ConnectedBoard | None = None
        self._alarm: Timer | None = None

    def is_opening(self, board: ConnectedBoard) -> bool:
        """Whether the port of ``board``, as it is plugged now, is being opened."""
        return self._opening is board

    def open(self, board: ConnectedBoard) -> None:
        """Open the port of ``board``, which has to show one."""
        self.close()
        if board.tty is None:
            raise RuntimeError("the board shows no serial port")
        self._opening = board
        self._alarm = self._loop.call_later(OPEN_DEADLINE, partial(self._hung, board))
        self._threads.run(
            partial(ports.connect, board.tty),
            partial(self._opened, board),
            partial(self._refused, board),
        )

    def close(self) -> None:
        """Close it, or wait for it no longer: what is opened all the same is closed again."""
        self._stop_waiting()
        if self.port is not None:
            self.port.close()
            self.port = None

    def _stop_waiting(self) -> None:
        self._opening = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _opened(self, board: ConnectedBoard, connection: serial.Serial) -> None:
        if self.is_opening(board):
            self._stop_waiting()
            callbacks = self._callbacks
            self.port = Port(self._loop, connection, callbacks.on_data, self._lost)
            callbacks.on_open(self.port)
        else:  # it took so long that nobody waits any more
            self._threads.run(connection.close, lambda _: None, lambda _: None)

    def _refused(self, board: ConnectedBoard, error: Exception) -> None:
        if self.is_opening(board):
            self._stop_waiting()
            why = error.strerror if isinstance(error, OSError) else None
            held = isinstance(error, ports.PortHeld)
            tell = self._callbacks.on_held if held else self._callbacks.on_refused
            tell(why or str(error))

    def _hung(self, board: ConnectedBoard) -> None:
        if self.is_opening(board):
            self._stop_waiting()
            self._callbacks.on_hung(f"its port did not open in {OPEN_DEADLINE:.0f} s")

    def _lost(self, reason: str) -> None:
        name = self._threads.name
        log.info("port of %s lost: %s", name, reason, extra=about(name.removeprefix(PREFIX)))
        self._callbacks.on_lost()
