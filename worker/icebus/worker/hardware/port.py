"""A board's serial port on its device's loop: never waited for, never blocked on."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import termios
from collections.abc import Callable
from functools import partial
from pathlib import Path

import serial

from icebus.worker.hardware.port_holder import holder_of
from icebus.worker.loop import READ, WRITE, Callback, Loop

log = logging.getLogger(__name__)

READ_SIZE = 65536
WRITE_SIZE = 65536
"""Offered to the port at a time; it takes as much as it has room for."""

RULES = "install icebus's udev rules (docs/boards.md)"
"""What gives the right to a board's port."""

BAUD = 115200
"""Of no meaning on USB, but 1200 would send the board to its bootloader."""


class PortHeld(OSError):
    """Somebody else has locked the port; nothing is the matter with the board."""


def connect(path: Path) -> serial.Serial:
    """Open a board's device file; on a helper thread, as a driver may hang in it.

    Raises:
        PermissionError: this process has no right to it; the message names the remedy.
        PortHeld: another program has locked it; the message names it where that can be found out.
        OSError: it can't be opened (``serial.SerialException`` is one).
    """
    try:
        return serial.Serial(str(path), BAUD, timeout=0, write_timeout=0, exclusive=True)
    except serial.SerialException as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise PermissionError(error.errno, f"no right to open {path}: {RULES}") from None
        if error.errno in (errno.EAGAIN, errno.EBUSY):
            held = f"{path} is held by {holder_of(path)}; stop that one"
            raise PortHeld(error.errno, held) from None
        raise
    except termios.error as error:  # the board left while its port was being set up
        raise OSError(*error.args) from None


class Port:
    """An open serial port.

    Args:
        loop: whose thread this is used on.
        connection: what :func:`connect` gave.
        on_data: called with the bytes that came.
        on_lost: called once when the port is gone.
    """

    def __init__(
        self,
        loop: Loop,
        connection: serial.Serial,
        on_data: Callable[[bytes], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._on_data = on_data
        self._on_lost = on_lost
        self._outgoing = memoryview(b"")
        self._on_sent: Callback | None = None
        self._serial = connection
        self._descriptor: int = self._serial.fileno()
        loop.watch(self._descriptor, READ, self._ready)

    @property
    def sending(self) -> bool:
        """Whether bytes wait to be taken by the port, or that they were has still to be told."""
        return len(self._outgoing) > 0 or self._on_sent is not None

    def send(self, data: bytes, on_sent: Callback | None = None) -> None:
        """Send ``data`` as fast as the port takes it; ``on_sent`` later, when it has taken all."""
        if self.sending or not self._serial.is_open:
            raise RuntimeError("the port is still sending, or closed")
        self._outgoing = memoryview(data)
        self._on_sent = on_sent
        # Most of what is sent fits at once: then the kernel need not be asked to tell of room.
        with contextlib.suppress(OSError):  # it is met again, and told, where nobody waits for us
            self._taken(os.write(self._descriptor, self._outgoing[:WRITE_SIZE]))
        if len(self._outgoing) > 0:
            self._loop.watch(self._descriptor, READ | WRITE, self._ready)
        elif on_sent is not None:
            self._loop.post(partial(self._tell_sent, on_sent))

    def discard(self) -> None:
        """Drop what has not been sent, and what the kernel has not passed on."""
        if not self._serial.is_open:
            return
        self._outgoing = memoryview(b"")
        self._on_sent = None
        self._loop.watch(self._descriptor, READ, self._ready)
        with contextlib.suppress(termios.error, OSError):
            termios.tcflush(self._descriptor, termios.TCOFLUSH)

    def close(self) -> None:
        """Close it; nothing is called afterwards."""
        if self._serial.is_open:
            self._outgoing = memoryview(b"")
            self._on_sent = None
            self._loop.unwatch(self._descriptor)
            # Closing a terminal waits for its output to drain, and a dead board never drains it.
            with contextlib.suppress(termios.error, OSError):
                termios.tcflush(self._descriptor, termios.TCOFLUSH)
            with contextlib.suppress(OSError):
                self._serial.close()

    def _ready(self, events: int) -> None:
        if events & READ and not self._read():
            return
        if events & WRITE and self._serial.is_open and len(self._outgoing) > 0:
            self._write()

    def _read(self) -> bool:
        try:
            data = os.read(self._descriptor, READ_SIZE)
        except BlockingIOError:
            return True
        except OSError as error:
            self._lose(error.strerror or "read error")
            return False
        if not data:
            self._lose("hung up")
            return False
        self._on_data(data)
        return self._serial.is_open

    def _write(self) -> None:
        try:
            sent = os.write(self._descriptor, self._outgoing[:WRITE_SIZE])
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error.strerror or "write error")
            return
        self._taken(sent)
        if len(self._outgoing) == 0:
            self._loop.watch(self._descriptor, READ, self._ready)
            if self._on_sent is not None:
                self._tell_sent(self._on_sent)

    def _taken(self, sent: int) -> None:
        self._outgoing = self._outgoing[sent:]

    def _tell_sent(self, on_sent: Callback) -> None:
        if self._on_sent is on_sent and len(self._outgoing) == 0:  # or it was discarded since
            self._on_sent = None
            on_sent()

    def _lose(self, why: str) -> None:
        self.close()
        self._on_lost(why)
