"""An HTTP endpoint on loopback: a program tells its health and its metrics there.

What tells them is given to it as pages; it knows nothing of either.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import Any

from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import InvalidRequest

log = logging.getLogger(__name__)

CONNECTIONS = 8
"""At a time; the oldest that has not asked yet makes way for another."""

LONGEST_REQUEST = 5.0
"""Seconds from connection to answer; a slower one is closed."""

POLL = 0.5
"""Seconds between looks at connections that have lasted too long."""


@dataclass(frozen=True)
class Page:
    """What is answered.

    Attributes:
        body: of the answer.
        content_type: of that.
        status: of the answer.
    """

    body: bytes
    content_type: str
    status: HTTPStatus = HTTPStatus.OK


MakePage = Callable[[], Page]


def made(make: MakePage) -> Page:
    """The page; 500 where it can't be made, and the log says why."""
    try:
        return make()
    except (Exception, SystemExit):
        log.exception("a page of health or metrics could not be made")
        body = b"this could not be found out; the log says why\n"
        return Page(body, "text/plain", HTTPStatus.INTERNAL_SERVER_ERROR)


class Cached:
    """A page that is made for one request at a time, and told again for a while.

    So is that it could not be made: whoever asks all the time fills no log.

    Args:
        make: makes it; may take seconds.
        seconds: for which it is told again, however many ask.
    """

    def __init__(self, make: MakePage, seconds: float) -> None:
        self._make = make
        self._seconds = seconds
        self._lock = threading.Lock()
        self._page: Page | None = None
        self._until = 0.0

    def __call__(self) -> Page:
        """The page."""
        with self._lock:
            if self._page is None or time.monotonic() >= self._until:
                self._page = made(self._make)
                self._until = time.monotonic() + self._seconds
            return self._page


@dataclass(frozen=True)
class Place:
    """Where an endpoint listens: an address of this machine's loopback, and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, what: str = "health") -> Place:
        """Read ``127.0.0.1:9101`` or ``[::1]:9101``.

        Args:
            text: that somebody gave.
            what: is to be told there, for people.

        Raises:
            InvalidRequest: it is not one, or others could reach it.
        """
        match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+|localhost)):([0-9]{1,5})", text)
        example = "give an address of loopback and a port, such as 127.0.0.1:9101"
        if match is None or not int(match[3]) <= 65535:
            raise InvalidRequest(f"{what} can't be told at {text!r}; {example}")
        host = match[1] or match[2].replace("localhost", "127.0.0.1")
        try:
            loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise InvalidRequest(f"{what} can be told on loopback only, not at {text!r}; {example}")
        return cls(host, int(match[3]))


class Endpoint:
    """Answers ``GET`` of some paths.

    Args:
        place: where it listens.
        pages: by path.

    Raises:
        InvalidRequest: something else listens there.
    """

    def __init__(self, place: Place, pages: Mapping[str, MakePage]) -> None:
        try:
            self._server = _Server(place, pages)
        except OSError as error:
            raise InvalidRequest(
                f"nothing can be told at {place.host}:{place.port}: {error.strerror}; "
                "choose another port"
            ) from None
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL,), name="endpoint", daemon=True
        )

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self, deadline: Deadline) -> None:
        """Answer no more."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(deadline.remaining)
        self._server.close_all()
        self._server.server_close()


class _Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = CONNECTIONS
    allow_reuse_address = True

    def __init__(self, place: Place, pages: Mapping[str, MakePage]) -> None:
        self.address_family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
        self.pages = pages
        self._since: dict[socket.socket, float] = {}
        self._silent: dict[socket.socket, None] = {}
        self._open = threading.Lock()
        super().__init__((place.host, place.port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer's own asks the name service what we are called.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open:
            full = len(self._since) >= CONNECTIONS
            # An honest request comes at once: who holds places without one keeps nobody out.
            idle = next(iter(self._silent), None) if full else None
            taken = not full or idle is not None
            if idle is not None:
                del self._silent[idle], self._since[idle]
                _end(idle)
            if taken:
                self._since[request] = time.monotonic()
                self._silent[request] = None
        if taken:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def has_asked(self, request: socket.socket) -> None:
        """A request has come whole."""
        with self._open:
            self._silent.pop(request, None)

    def shutdown_request(self, request: Any) -> None:
        with self._open:
            self._since.pop(request, None)
            self._silent.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        before = time.monotonic() - LONGEST_REQUEST
        with self._open:
            slow = [each for each, since in self._since.items() if since < before]
        for each in slow:
            _end(each)

    def close_all(self) -> None:
        with self._open:
            left = list(self._since)
        for each in left:
            _end(each)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Whoever asks may go away in the middle; what is wrong with us, the verdict tells.
        log.debug("a request failed: %r", sys.exc_info()[1])


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = LONGEST_REQUEST
    protocol_version = "HTTP/1.0"
    server_version = "icebus"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        self.server.has_asked(self.connection)
        # A page that has a name of its own point here is not to read it.
        host = re.sub(r":[0-9]+$", "", self.headers.get("Host", "localhost")).strip("[]")
        if host != "localhost" and not _is_loopback(host):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return
        make = self.server.pages.get(self.path.partition("?")[0])
        if make is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        page = made(make)
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if body:
            self.wfile.write(page.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name there)
        log.debug("asked: %s", self.requestline)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
