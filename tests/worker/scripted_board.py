"""A board that says exactly what a test wants, on a real serial port."""

from __future__ import annotations

import contextlib
import os
import select
import tty
from pathlib import Path

from tests.worker.waiting import TIMEOUT

from icebus.schemas.boards import pulse_count_text as text
from icebus.schemas.deadline import Deadline

SIZE = text.BITSTREAM_SIZE
RECEIVED = text.RECEIVED.format(us=1)


class ScriptedBoard:
    """The board's end of a PTY. The test is the firmware: it reads and speaks as it pleases."""

    def __init__(self) -> None:
        self.master, slave = os.openpty()
        tty.setraw(slave)
        self.path = Path(os.ttyname(slave))
        os.close(slave)
        os.set_blocking(self.master, False)

    def close(self) -> None:
        """Unplug it."""
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def take(self, count: int = text.BITSTREAM_SIZE) -> bytes:
        """Exactly so many bytes from the host."""
        got = bytearray()
        deadline = Deadline.after(TIMEOUT)
        while len(got) < count:
            deadline.check(f"{count} bytes, of which {len(got)} have come")
            select.select([self.master], [], [], 0.05)
            with contextlib.suppress(BlockingIOError, OSError):  # EIO: the host has it closed
                got += os.read(self.master, count - len(got))
        return bytes(got)

    def pending(self, seconds: float = 0.0) -> int:
        """How many bytes wait, or come within that time."""
        got = 0
        deadline = Deadline.after(seconds)
        while True:
            select.select([self.master], [], [], deadline.remaining)
            with contextlib.suppress(BlockingIOError, OSError):
                got += len(os.read(self.master, 1 << 16))
                continue
            if deadline.expired:
                return got

    def say_bytes(self, data: bytes) -> None:
        rest = memoryview(data)
        deadline = Deadline.after(TIMEOUT)
        while rest:
            deadline.check("the host to listen")
            select.select([], [self.master], [], 0.05)
            with contextlib.suppress(BlockingIOError):
                rest = rest[os.write(self.master, rest) :]

    def say(self, *lines: str) -> None:
        self.say_bytes("".join(line + text.EOL for line in lines).encode())

    def start(self, count: int = text.BITSTREAM_SIZE) -> bytes:
        """Begin a transfer and take so much of it."""
        data = self.take(count)
        self.say(text.STARTED, text.RECEIVING)
        return data

    def receive(self) -> bytes:
        """Take a whole transfer."""
        data = self.start()
        self.say(text.RECEIVED.format(us=100), text.FLASHING)
        return data

    def report(self, pulses: int, *before: str) -> None:
        times = text.FLASH_TIMES.format(init=1, start=2, open=3, write=4, close=5)
        self.say(*before, times, text.PULSES.format(pulses=pulses))

    def go_idle(self) -> None:
        self.say(text.IDLE, text.CONNECTED, text.WAITING)

    def watchdog(self, received: int) -> None:
        """Say that its watchdog has ended a transfer."""
        self.say(text.WATCHDOG.format(received=received, size=text.BITSTREAM_SIZE), text.WAITING)

    def measure(self, pulses: int) -> bytes:
        """A whole measurement, as it should be."""
        data = self.receive()
        self.report(pulses)
        self.go_idle()
        return data


def blank(value: int) -> bytes:
    """Something of a bitstream's size that can be told from others."""
    return bytes([value]) * text.BITSTREAM_SIZE


def value_of(data: bytes) -> int:
    """Which of the test's bitstreams was sent; fails for a mixture of two."""
    assert len(set(data)) == 1, f"bytes of {sorted(set(data))} in one transfer"
    return data[0]
