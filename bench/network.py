"""A network that fails on demand: TCP proxies between the parts of a farm and its broker."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from icebus.broker.embedded import reachable
from icebus.broker.mosquitto import LOOPBACK

CHUNK = 1 << 16
"""Bytes forwarded at once."""

START_TIMEOUT = 10.0

_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class _Connection:
    """One connection through the proxy: two halves, forwarded by a task each."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    dead: bool = False

    def reset(self) -> None:
        """End it with a reset, as a router does that has forgotten it."""
        for half in (self.near, self.far):
            # Without lingering, closing a socket resets its connection.
            half.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER
            )
        self.abort()

    def abort(self) -> None:
        """End it."""
        for half in (self.near, self.far):
            half.transport.abort()


@dataclass(eq=False)
class _Link:
    """The way from one part of the farm to the broker."""

    server: asyncio.Server
    passing: asyncio.Event = field(default_factory=asyncio.Event)
    connections: set[_Connection] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.passing.set()


class Network:
    """Forwards a loopback port for each part of a farm to the broker's, until told otherwise.

    Args:
        port: where the broker listens, now or later.
        host: likewise.
    """

    def __init__(self, port: int, host: str = LOOPBACK) -> None:
        self._target = (reachable(host), port)
        self._links: dict[str, _Link] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network")
        self._thread.start()

    def link(self, name: str) -> int:
        """The port that leads to the broker for the part of that name; opened when first asked."""
        if name not in self._links:
            opened = asyncio.run_coroutine_threadsafe(self._open(name), self._loop)
            opened.result(START_TIMEOUT)
        port: int = self._links[name].server.sockets[0].getsockname()[1]
        return port

    def cut(self, name: str) -> None:
        """Reset all connections of a part; new ones are possible at once."""

        def reset() -> None:
            for each in self._links[name].connections:
                each.reset()

        self._do(reset)

    def half_open(self, name: str) -> None:
        """Lose whatever is sent on the connections of a part from now on, and tell neither end.

        New connections are possible at once: it is for both ends to find out.
        """

        def kill() -> None:
            for each in self._links[name].connections:
                each.dead = True

        self._do(kill)

    def delay(self, name: str) -> None:
        """Let nothing pass until `resume`, as when a cable is out for a moment; nothing is lost."""
        self._do(self._links[name].passing.clear)

    def resume(self, name: str) -> None:
        """Let pass what was delayed, and what comes."""
        self._do(self._links[name].passing.set)

    def close(self) -> None:
        """End all connections and the thread."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(START_TIMEOUT)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_TIMEOUT)
        self._loop.close()

    def _do(self, action: Callable[[], object]) -> None:
        done = threading.Event()

        def act() -> None:
            action()
            done.set()

        self._loop.call_soon_threadsafe(act)
        if not done.wait(START_TIMEOUT):
            raise TimeoutError("the network's thread does not answer")

    # --- on the loop --------------------------------------------------------------------------

    async def _open(self, name: str) -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._carry(self._links[name], reader, writer)

        server = await asyncio.start_server(accept, LOOPBACK, 0, start_serving=False)
        self._links[name] = _Link(server)
        await server.start_serving()

    async def _carry(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await link.passing.wait()
        try:
            answer, far = await asyncio.open_connection(*self._target)
        except OSError:
            # Nobody listens there: the nearest that a proxy can come to a refused connection.
            writer.transport.abort()
            return
        connection = _Connection(writer, far)
        link.connections.add(connection)
        try:
            await asyncio.gather(
                _forward(link, connection, reader, far), _forward(link, connection, answer, writer)
            )
        finally:
            connection.abort()
            link.connections.discard(connection)

    async def _end(self) -> None:
        for link in self._links.values():
            link.server.close()
        # What is delayed waits no longer; all that is left ends with its connection.
        tasks = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _forward(
    link: _Link,
    connection: _Connection,
    source: asyncio.StreamReader,
    sink: asyncio.StreamWriter,
) -> None:
    """Forward one half until it ends; the other learns of that unless the connection is dead."""
    with contextlib.suppress(OSError):
        while data := await source.read(CHUNK):
            await link.passing.wait()
            if not connection.dead:
                sink.write(data)
                await sink.drain()
    await link.passing.wait()
    if not connection.dead:
        sink.close()
