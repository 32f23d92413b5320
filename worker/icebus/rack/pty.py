"""A board's serial port: the master side of a PTY, with what a USB CDC device would notice.

The rack owns the master and keeps no slave open, so a hang-up of the master says that the host has
closed the port. In packet mode with ``EXTPROC`` set the kernel tells the master of every
``tcsetattr`` of the host, which stands for CDC's SET_LINE_CODING. Closing the master is unplugging.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import termios
import tty
from enum import Enum, auto
from typing import Any, Final

# Linux, asm-generic/termbits.h and ioctls.h; Python's termios has no names for these two.
_EXTPROC: Final = 0o200000
_TIOCPKT_IOCTL: Final = 0x40

_LFLAG: Final = 3
_OSPEED: Final = 5
_READ_MAX: Final = 1 << 16
_CHUNK: Final = 4096
"""Bytes that the kernel holds for the master, and so gives at once."""

EVENTS: Final = select.EPOLLIN | select.EPOLLPRI | select.EPOLLHUP | select.EPOLLET
"""What to watch a port for. Edge-triggered: a closed port would report its hang-up for ever."""


class Signal(Enum):
    """What a port has other than bytes."""

    EMPTY = auto()
    """Nothing more to read now."""
    CLOSED = auto()
    """The host has closed the port and everything it wrote has been read."""
    TOUCH = auto()
    """The host has set 1200 baud."""
    REOPENED = auto()
    """The host has set what was set already: it has closed the port and opened it again."""
    WAITING = auto()
    """There are bytes, but none were asked for."""
    OTHER = auto()
    """Something of no concern, such as another baud rate or a flush; read on."""


class PtyPort:
    """One PTY; not thread-safe. The host opens :attr:`path`."""

    def __init__(self) -> None:
        self._master, slave = os.openpty()
        try:
            self.path = os.ttyname(slave)
            os.fchmod(slave, 0o600)  # where devpts is mounted as usual, group tty could write
            tty.setraw(slave)
            attributes = termios.tcgetattr(slave)
            attributes[_LFLAG] |= _EXTPROC
            termios.tcsetattr(slave, termios.TCSANOW, attributes)
            fcntl.ioctl(self._master, termios.TIOCPKT, struct.pack("i", 1))
            os.set_blocking(self._master, False)
            self._hang_up = select.poll()
            self._hang_up.register(self._master, 0)
        except BaseException:
            os.close(self._master)
            raise
        finally:
            os.close(slave)
        self._unread = False
        self._held: Signal | None = None
        self._attributes: list[Any] = attributes

    def fileno(self) -> int:
        """The master, to be registered with :data:`EVENTS`."""
        return self._master

    def read(self, limit: int) -> bytes | Signal:
        """Up to ``limit`` bytes from the host; with a limit of 0, only look."""
        held, self._held = self._held, None
        if held is not None:
            return held
        if not limit:
            return self._read_chunk(0)
        # The kernel gives little at a time, so it is asked until it has no more.
        left = min(limit, _READ_MAX)
        chunks: list[bytes] = []
        while left:
            got = self._read_chunk(min(left, _CHUNK))
            if not isinstance(got, bytes):
                if not chunks:
                    return got
                self._held = got
                break
            chunks.append(got)
            left -= len(got)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _read_chunk(self, limit: int) -> bytes | Signal:
        try:
            data = os.read(self._master, limit + 1)
        except BlockingIOError:
            return Signal.EMPTY
        except OSError as error:
            if error.errno == errno.EIO:
                return Signal.CLOSED
            raise
        if data[0]:
            return self._status(data[0])
        return data[1:] if len(data) > 1 else Signal.WAITING

    def write(self, data: bytes) -> int:
        """How many bytes the host takes now; all, and for nothing, while it has the port closed."""
        if self.is_closed():
            return len(data)
        self._unread = True
        try:
            return os.write(self._master, data)
        except BlockingIOError:
            return 0

    def is_closed(self) -> bool:
        """Whether no host has the port open."""
        return bool(self._hang_up.poll(0))

    def drop_unread(self) -> None:
        """Forget what was printed and not read, so that the next host to open doesn't see it."""
        if not self._unread:
            return
        self._unread = False
        slave = os.open(self.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            termios.tcflush(slave, termios.TCIFLUSH)
        finally:
            os.close(slave)

    def take_unreceived(self) -> bytes:
        """All that a host wrote and that was not read yet."""
        taken = b""
        while isinstance(got := self.read(_READ_MAX), bytes):
            taken += got
        self._held = got
        return taken

    def close(self) -> None:
        """Unplug: a host that has the port open gets EIO."""
        os.close(self._master)

    def _status(self, status: int) -> Signal:
        if not status & _TIOCPKT_IOCTL:
            return Signal.OTHER
        attributes = termios.tcgetattr(self._master)
        if not attributes[_LFLAG] & _EXTPROC:
            # The host has replaced all flags; without this one its next change goes unseen.
            attributes[_LFLAG] |= _EXTPROC
            termios.tcsetattr(self._master, termios.TCSANOW, attributes)
        before, self._attributes = self._attributes, attributes
        if attributes[_OSPEED] == termios.B1200:
            return Signal.TOUCH
        return Signal.REOPENED if attributes == before else Signal.OTHER
