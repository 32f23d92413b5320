"""The other end of a relayed connection, in the hands of a test."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from icebus.bus import BrokerAddress
from icebus.client.dashboard.starting import Dashboard

TIMEOUT = 10.0

CONNECT = b"\x10"
"""What a browser says first; a scripted broker does not look at the rest."""


class ScriptedBroker:
    """Listens on a free port; each connection is a plain socket."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(TIMEOUT)
        self._taken: list[socket.socket] = []
        self.port: int = self._listening.getsockname()[1]

    @property
    def address(self) -> BrokerAddress:
        return BrokerAddress(host="127.0.0.1", port=self.port, user="alice", password="secret")

    def take(self) -> socket.socket:
        """The next connection."""
        taken, _ = self._listening.accept()
        taken.settimeout(TIMEOUT)
        self._taken.append(taken)
        return taken

    def close(self) -> None:
        self._listening.close()
        for taken in self._taken:
            taken.close()


def read(connection: socket.socket, count: int) -> bytes:
    """So many bytes, or those that came before the end."""
    data = bytearray()
    while len(data) < count:
        chunk = connection.recv(min(count - len(data), 1 << 16))
        if not chunk:
            break
        data += chunk
    return bytes(data)


def browse(
    dashboard: Dashboard,
    subprotocols: Sequence[str] | None = ("mqtt",),
    origin: str | None = None,
    max_queue: int | None = 16,
) -> ClientConnection:
    """A WebSocket to the farm's broker, as browsers open it."""
    return connect(
        dashboard.running.url.replace("http", "ws", 1) + "/mqtt",
        subprotocols=None if subprotocols is None else [Subprotocol(each) for each in subprotocols],
        origin=None if origin is None else Origin(origin),
        proxy=None,
        open_timeout=TIMEOUT,
        max_size=None,
        max_queue=max_queue,
    )


def heard(browser: ClientConnection, count: int) -> bytes:
    """So many bytes of what a browser is sent, whatever its frames are."""
    data = bytearray()
    while len(data) < count:
        message = browser.recv(TIMEOUT)
        assert isinstance(message, bytes)
        data += message
    return bytes(data)
