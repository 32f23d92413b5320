"""What the bus asks of its TCP connection."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Protocol


class _HasDescriptor(Protocol):
    def fileno(self) -> int: ...


def send_at_once(connection: _HasDescriptor) -> None:
    """Switch Nagle's algorithm off: against delayed acknowledgements it costs 40 ms a message.

    paho's WebSocket wrapper has no ``setsockopt``, so a duplicate of the descriptor gets it.
    """
    with contextlib.suppress(OSError):
        twin = socket.socket(fileno=os.dup(connection.fileno()))
        try:
            twin.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        finally:
            twin.close()
