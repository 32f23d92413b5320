"""What the bus asks of its TCP connection."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Protocol

from icebus.schemas.deadline import Deadline

CLOSE_TIMEOUT = 1.0
"""Seconds for the broker to close a connection that we have said we leave."""

CHUNK = 1 << 16
"""Bytes read at once."""


class NoHandshake(TimeoutError):
    """Something took the connection, and did not begin to speak TLS."""


class HasDescriptor(Protocol):
    def fileno(self) -> int: ...


def send_at_once(connection: HasDescriptor) -> None:
    """Switch Nagle's algorithm off: against delayed acknowledgements it costs 40 ms a message."""
    with contextlib.suppress(OSError), _duplicate(connection) as duplicate:
        duplicate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def close_after_reading(connection: HasDescriptor) -> None:
    """Tell the broker that nothing more comes, and read until it has closed the connection.

    A connection that is closed with bytes unread is reset. A broker that meets the reset while it
    writes does not read what we said last: that we leave of our own accord, and that it is not to
    publish our will.
    """
    deadline = Deadline.after(CLOSE_TIMEOUT)
    with contextlib.suppress(OSError), _duplicate(connection) as duplicate:
        duplicate.shutdown(socket.SHUT_WR)
        while not deadline.expired:
            duplicate.settimeout(deadline.remaining)
            if not duplicate.recv(CHUNK):
                return


def _duplicate(connection: HasDescriptor) -> socket.socket:
    """The same connection: paho's WebSocket wrapper lacks most methods of a socket."""
    return socket.socket(fileno=os.dup(connection.fileno()))
