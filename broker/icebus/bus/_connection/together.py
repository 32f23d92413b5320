"""Messages that are published together: paho's thread is woken once for all of them.

paho wakes it for each. It then takes Python's lock from whoever publishes, to send one message, and
so on in turns: a reservation of many devices, or the results of many boards, took twice as long.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from paho.mqtt.enums import MQTTErrorCode

from icebus.bus._connection.reading import ReadingClient


class SendingClient(ReadingClient):
    """paho's client, whose thread lets those who publish several messages come to an end first."""

    def loop_start(self) -> MQTTErrorCode:
        """Start paho's thread."""
        code = super().loop_start()
        if self._sockpairW is not None:
            self._sockpairW = Waking(self._sockpairW)  # type: ignore[assignment]
        return code

    @contextmanager
    def together(self) -> Iterator[None]:
        """What this thread publishes in the block goes out at its end, if not before."""
        waking = self._sockpairW
        if not isinstance(waking, Waking):
            yield
            return
        waking.put_off()
        try:
            yield
        finally:
            waking.catch_up()


class Waking:
    """The socket that wakes paho's thread from waiting; each thread may put off to use it.

    Args:
        connection: paho's.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._of_thread = _OfThread()

    def send(self, data: bytes) -> int:
        """Wake it, or do so later."""
        if self._of_thread.putting_off:
            self._of_thread.owed = data
            return len(data)
        sent: int = self._connection.send(data)
        return sent

    def put_off(self) -> None:
        """Do not wake it before :meth:`catch_up`."""
        self._of_thread.putting_off += 1

    def catch_up(self) -> None:
        """Wake it, if that was put off."""
        mine = self._of_thread
        mine.putting_off -= 1
        if mine.putting_off or not mine.owed:
            return
        data, mine.owed = mine.owed, b""
        with suppress(OSError):  # full: it was woken before; closed: nothing is sent any more
            self._connection.send(data)

    def close(self) -> None:
        """Close the socket."""
        self._connection.close()


class _OfThread(threading.local):
    putting_off = 0
    owed = b""
