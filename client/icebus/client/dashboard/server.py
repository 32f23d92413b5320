"""Runs the dashboard's application: an owner starts it, and stops it by a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from icebus.client.dashboard.connections import Http
from icebus.client.dashboard.settings import Settings
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import DeadlineExceeded, InternalError

log = logging.getLogger(__name__)

CONNECTIONS = 512
"""Requests and browsers at once; beyond, requests are answered with 503."""

LARGEST_FRAME = (2 << 20) + (1 << 16)
"""Bytes of a browser's frame: the broker takes packets of 2 MiB."""

PING_INTERVAL = 20.0
"""Seconds; and so long for a browser to answer, which browsers do by themselves."""

STOP_TIMEOUT = 2
"""Seconds for connections to be closed in good order."""


class DashboardServer:
    """Listens from the moment it is made, serves between `start` and `stop`.

    Args:
        application: what it serves.
        settings: where it listens.

    Raises:
        InvalidRequest: it can't listen there, or the settings would give passwords away.
    """

    def __init__(self, settings: Settings) -> None:
        settings.check()
        self.settings = settings
        self._tls = settings.tls()
        self._socket = settings.listen()
        self.port: int = self._socket.getsockname()[1]
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    @property
    def url(self) -> str:
        """Its address, for people."""
        return self.settings.url(self.port)

    @property
    def running(self) -> bool:
        """Whether it serves."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, application: ASGIApp, deadline: Deadline) -> None:
        """Serve; returns when it does.

        Raises:
            InternalError: it ended at once; the log says why.
            DeadlineExceeded: it did not start in time.
        """
        tls = self._tls
        logging.getLogger("uvicorn.error").addFilter(_is_meant)
        config = uvicorn.Config(
            application,
            http=Http,
            ws="websockets-sansio",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=STOP_TIMEOUT,
            ws_max_size=LARGEST_FRAME,
            ws_ping_interval=PING_INTERVAL,
            ws_ping_timeout=PING_INTERVAL,
            ws_per_message_deflate=False,
            ssl_context_factory=None if tls is None else lambda *_: tls,
        )
        self._server = server = _Server(config)
        self._thread = threading.Thread(
            target=self._serve, args=(server, self._socket), name="icebus-dashboard", daemon=True
        )
        self._thread.start()
        if not server.settled.wait(deadline.remaining):
            raise DeadlineExceeded("the dashboard did not start in time; try again")
        if not server.started:
            raise InternalError("the dashboard ended as it started; its log says why")

    def _serve(self, server: _Server, listening: socket.socket) -> None:
        try:
            asyncio.run(server.serve([listening]))
        except (Exception, SystemExit):
            log.exception("the dashboard has ended")
        finally:
            server.settled.set()

    def post(self, turn: Callable[[], None]) -> None:
        """Have something run at the next turn of its loop; for whoever minds whether it turns."""
        if self._server is None or self._server.loop is None:
            raise InternalError("the dashboard has not started")
        self._server.loop.call_soon_threadsafe(turn)

    def stop(self, deadline: Deadline) -> None:
        """End every connection and stop to listen.

        Raises:
            DeadlineExceeded: it did not in time.
        """
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(deadline.remaining)
            if self._thread.is_alive():
                raise DeadlineExceeded("the dashboard did not stop in time")
        with contextlib.suppress(OSError):
            self._socket.close()


def _is_meant(record: logging.LogRecord) -> bool:
    """Not what uvicorn says, as an error, of each WebSocket that was refused with an answer."""
    return record.msg != "ASGI callable returned without completing handshake."


class _Server(uvicorn.Server):
    """Says when it serves, or has ended without.

    Attributes:
        settled: that moment.
        loop: that it serves on, once it does.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.loop = asyncio.get_running_loop()
        self.settled.set()
