"""Connections of browsers, before they are WebSockets."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

REQUEST_TIMEOUT = 10.0
"""Seconds for a request to come whole, from the connection or the answer before it on."""

WAITING = 256
"""Connections that may have no whole request; the one that has been so for longest makes way."""


class Http(H11Protocol):
    """uvicorn's, which would wait for ever for a request that has begun, or never does.

    An honest request comes within milliseconds, so that who holds hundreds of connections without
    one keeps nobody out.
    """

    _waiting: ClassVar[WeakKeyDictionary[ServerState, dict[Http, None]]] = WeakKeyDictionary()
    """Of each server, those that wait for a request, the one that waits longest first."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._waits: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._came()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Wait no more: it is another protocol's from here on."""
        self._came()
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        """Begin to wait for the next one."""
        self._wait()
        super().on_response_complete()

    def _wait(self) -> None:
        self._came()
        if self.transport.is_closing():
            return
        self._waits = self.loop.call_later(REQUEST_TIMEOUT, self._give_up)
        waiting = self._waiting.setdefault(self.server_state, {})
        waiting[self] = None
        if len(waiting) > WAITING:
            next(iter(waiting)).make_way()

    def make_way(self) -> None:
        """End: others need the place."""
        self._came()
        self._give_up()

    def _came(self) -> None:
        self._waiting.get(self.server_state, {}).pop(self, None)
        if self._waits is not None:
            self._waits.cancel()
            self._waits = None

    def _give_up(self) -> None:
        self._waits = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
