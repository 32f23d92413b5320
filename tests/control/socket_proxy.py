"""A way to a PostgreSQL that can be blocked: what passes it then goes nowhere, and nothing ends."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from pathlib import Path

SOCKET = ".s.PGSQL.5432"
"""What libpq looks for in a folder that it is given as a host."""

CHUNK = 1 << 16


class SocketProxy:
    """Forwards connections to the socket of a server, until it is blocked.

    Args:
        server: the folder of the server's socket.

    Attributes:
        directory: of a socket that leads there.
    """

    def __init__(self, server: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="icebus-proxy-")
        self.directory = Path(self._folder.name)
        self._server = str(server / SOCKET)
        self._passing = threading.Event()
        self._passing.set()
        self._sockets: list[socket.socket] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(self.directory / SOCKET))
        self._listening.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def block(self) -> None:
        """Let nothing pass, not even new connections."""
        self._passing.clear()

    def unblock(self) -> None:
        """Let all pass that waits, and what comes."""
        self._passing.set()

    def close(self) -> None:
        """End all connections."""
        self._passing.set()
        for each in (self._listening, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(10)
        self._folder.cleanup()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            self._sockets += [near, far]
            pump = threading.Thread(target=self._connect, args=[near, far])
            self._threads.append(pump)
            pump.start()

    def _connect(self, near: socket.socket, far: socket.socket) -> None:
        self._passing.wait()
        try:
            far.connect(self._server)
        except OSError:
            near.close()
            return
        back = threading.Thread(target=self._pump, args=[far, near])
        back.start()
        self._pump(near, far)
        back.join(10)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                self._passing.wait()
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
