"""The serial port of an emulated board: a pseudo-terminal between a host and the chip's USB."""

from __future__ import annotations

import select
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Final

from icebus.rack.pty import EVENTS, PtyPort, Signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from icebus.rack.loop import Loop, Timer

TOUCH_BAUD: Final = 1200

_WINDOW: Final = 1 << 16
"""Bytes from the host that the emulator may hold: more stay in the kernel, where the host waits."""

_MOST_UNREAD: Final = 1 << 16
"""Bytes that may wait for a host to read them. Then it is not read from either: a board that can't
answer takes no more requests."""

_CHUNK: Final = 1 << 12
_READS_A_TURN: Final = 4
"""Then the other boards have their turn."""

_AGAIN: Final = 0.002
"""Seconds until a host that reads too slowly is offered the rest again."""


class EmulatedPort:
    """A new serial port, from when the firmware is there until :meth:`close`.

    Args:
        loop: whose thread everything here runs on.
        send: has the emulator carry out a command.
    """

    def __init__(self, loop: Loop, send: Callable[..., None]) -> None:
        self._loop = loop
        self._send = send
        self._port = PtyPort()
        self._open = False
        self._closings = 0  # that the emulator has not seen to
        self._untaken = 0
        self._unread = bytearray()
        self._again: Timer | None = None
        self._closed = False

    @property
    def path(self) -> str:
        """What the host opens."""
        return self._port.path

    def start(self) -> None:
        """Serve the port."""
        self._loop.register(self._port.fileno(), EVENTS, self._on_events)
        self._pump()

    def close(self) -> None:
        """The device is gone: a host that has the port open gets EIO."""
        if self._closed:
            return
        self._closed = True
        if self._again is not None:
            self._again.cancel()
        self._loop.unregister(self._port.fileno())
        self._port.close()

    def received(self, data: str) -> None:
        """The firmware has sent this, in base64."""
        if self._open and not self._closings:
            self._unread += b64decode(data)
            self._offer()

    def taken(self, count: int) -> None:
        """The firmware has taken so many bytes."""
        full = not self._room
        self._untaken -= count
        if full:
            self._pump()

    def emulator_closed(self) -> None:
        """The emulator has closed the port, as it was told; what it sent before is outdated."""
        self._closings -= 1

    @property
    def _room(self) -> int:
        if len(self._unread) > _MOST_UNREAD:
            return 0
        return min(max(_WINDOW - self._untaken, 0), _CHUNK)

    def _on_events(self, events: int) -> None:
        if events & select.EPOLLHUP and self._port.is_closed():
            self._drain()
        else:
            self._pump()

    def _pump(self) -> None:
        if self._closed:
            return
        for _ in range(_READS_A_TURN):
            got = self._port.read(self._room)
            if isinstance(got, bytes):
                self._pass_on(got)
            elif got in (Signal.EMPTY, Signal.WAITING):
                return
            elif got is Signal.CLOSED:
                self._host_closed()
                return
            else:
                self._noticed(got)
        self._loop.call_soon(self._pump)

    def _drain(self) -> None:
        """Take what a host wrote before it closed the port, which is no more than the kernel holds.

        The next host may open the port meanwhile. It sets the line before it writes, and a port
        tells that first: bytes are the old host's until the port says something else and is open.
        """
        while (got := self._port.read(_WINDOW)) not in (Signal.CLOSED, Signal.EMPTY):
            if isinstance(got, bytes):
                self._pass_on(got)
            elif not self._port.is_closed():
                self._host_closed()
                self._noticed(got)
                self._loop.call_soon(self._pump)
                return
            else:
                self._noticed(got)
        self._host_closed()

    def _pass_on(self, data: bytes) -> None:
        self._be_open()
        self._untaken += len(data)
        self._send("write", data=b64encode(data).decode())

    def _noticed(self, signal: Signal) -> None:
        if signal is Signal.REOPENED and self._open:
            # The host has closed the port and opened it, too quickly for a hang-up to be seen.
            self._host_closed()
        self._be_open()
        if signal is Signal.TOUCH:
            self._send("baud", rate=TOUCH_BAUD)

    def _be_open(self) -> None:
        if not self._open:
            self._open = True
            self._send("open")

    def _host_closed(self) -> None:
        if not self._open:
            return
        self._open = False
        self._closings += 1
        self._send("close")
        self._unread.clear()
        self._port.drop_unread()

    def _offer(self) -> None:
        """Give the host as much as it has room for."""
        full = not self._room
        while self._unread and (count := self._port.write(bytes(self._unread[:_CHUNK]))):
            del self._unread[:count]
        if self._unread and self._again is None:
            self._again = self._loop.call_at(self._loop.now() + _AGAIN, self._offer_again)
        if full:
            self._pump()

    def _offer_again(self) -> None:
        self._again = None
        if not self._closed:
            self._offer()
