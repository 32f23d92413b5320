"""Carries a browser's MQTT to the farm's broker and back, byte for byte.

A browser speaks MQTT in the binary frames of a WebSocket; where a frame ends means nothing. Nothing
is read into the bytes and nothing is added, so that whoever looks signs in at the broker, by their
own name and password. What is in between is bounded: neither side is read while the other is slow.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial

from starlette.websockets import WebSocket, WebSocketDisconnect

from icebus.bus import BrokerAddress, client_context
from icebus.client.dashboard.failed_sign_ins import FailedSignIns, is_refusal
from icebus.client.dashboard.places import Place, Places

log = logging.getLogger(__name__)

SUBPROTOCOL = "mqtt"

CONNECTIONS = 128
"""Browsers' connections at once. Each may hold a message of 2 MiB here, either way."""

CHUNK = 1 << 16
"""Bytes that are read of the broker at once, and wait for one that is slow."""

FIRST_TIMEOUT = 10.0
"""Seconds for a browser to begin to sign in, and for the broker to answer it."""

CONNECT_TIMEOUT = 5.0
"""Seconds for the broker to take a connection, TLS included."""

STALLED_TIMEOUT = 60.0
"""Seconds for a side to take what waits for it. MQTT's keep-alive is quicker with most."""

LEAVE_TIMEOUT = 1.0
"""Seconds for the broker to read what a browser said last, and to close the connection."""

CONNECT_PACKET = 0x10
"""The first byte of whoever speaks MQTT: CONNECT, without flags."""


@dataclass(frozen=True)
class Ended:
    """Why a connection ended, as the browser is told.

    Attributes:
        code: of the WebSocket's close frame; from 4000 on they are an application's.
        reason: for people, at most 123 bytes.
    """

    code: int
    reason: str


UNREACHABLE = 4001
BROKER_CLOSED = Ended(4002, "the broker closed the connection")
TOO_MANY = Ended(4003, "too many connections to this dashboard; close other tabs")
TOO_MANY_FAILURES = Ended(4003, "too many failed to sign in from your address; wait a minute")
NOT_MQTT = Ended(4004, "this is not MQTT in binary frames")
SILENT = Ended(4004, f"nobody signed in within {FIRST_TIMEOUT:g} s")
STALLED = Ended(4004, f"nothing was taken for {STALLED_TIMEOUT:g} s")


class Relay:
    """Connections of browsers to one broker.

    Args:
        broker: where it is, and whom to trust there. Who we are there is not used.
        limit: connections at once.
    """

    def __init__(self, broker: BrokerAddress, limit: int = CONNECTIONS) -> None:
        self.host, self.port = broker.host, broker.port
        self._tls = client_context(broker.ca, None, None) if broker.tls else None
        self._places = Places(limit)
        self._failures = FailedSignIns()

    async def carry(self, browser: WebSocket) -> None:
        """Serve one browser until either side ends."""
        await browser.accept(SUBPROTOCOL)
        who = browser.client.host if browser.client else ""
        if not self._failures.may_try(who, time.monotonic()):
            log.warning("refused %s: too many failed to sign in", who, extra={"subject": who})
            return await _close(browser, TOO_MANY_FAILURES)
        carrying = asyncio.create_task(self._carry(browser, place := Place(who, lambda: None)))
        place.make_way = carrying.cancel
        out = self._places.take(place)
        if out is not None:
            log.warning("no place for a browser of %s", out.who, extra={"subject": out.who})
            out.make_way()
        try:
            ended = await carrying
        except WebSocketDisconnect:
            ended = None
        except asyncio.CancelledError:
            carrying.cancel()
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            ended = TOO_MANY
        finally:
            self._places.leave(place)
        if ended is not None:
            await _close(browser, ended)
        return None

    def _note_answer(self, place: Place, answer: bytes) -> None:
        """Count who is refused. The broker tells them itself why."""
        if is_refusal(answer):
            log.info("%s failed to sign in", place.who, extra={"subject": place.who})
            self._failures.count(place.who, time.monotonic())
        else:
            place.signed_in = bool(answer)

    async def _carry(self, browser: WebSocket, place: Place) -> Ended | None:
        """Why it ended; None when it was the browser that went."""
        try:
            async with asyncio.timeout(FIRST_TIMEOUT):
                first = await _receive(browser)
        except TimeoutError:
            return SILENT
        except _NotBinary:
            return NOT_MQTT
        if not first:
            return None
        if first[0] != CONNECT_PACKET:
            return NOT_MQTT
        try:
            async with self._connected() as (reader, writer):
                conversation = _Conversation(browser, reader, writer)
                return await conversation.hold(first, partial(self._note_answer, place))
        except (OSError, ssl.CertificateError, UnicodeError) as error:
            log.warning("can't reach the broker at %s:%d: %s", self.host, self.port, _why(error))
            return Ended(UNREACHABLE, _shortened(f"the broker can't be reached: {_why(error)}"))

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
        """A connection to the broker. asyncio switches Nagle's algorithm off for it.

        Raises:
            OSError: there is none.
        """
        async with asyncio.timeout(CONNECT_TIMEOUT):
            reader, writer = await asyncio.open_connection(
                self.host, self.port, ssl=self._tls, limit=CHUNK
            )
        writer.transport.set_write_buffer_limits(high=CHUNK)
        try:
            yield reader, writer
        finally:
            # What it has not read by now it never will.
            writer.transport.abort()


class _Conversation:
    """A browser and a broker who speak to each other through us."""

    def __init__(self, browser: WebSocket, reader: StreamReader, writer: StreamWriter) -> None:
        self._browser = browser
        self._reader = reader
        self._writer = writer
        self._listens = True

    async def hold(self, first: bytes, look: Callable[[bytes], object]) -> Ended | None:
        """Carry until either side ends, and what was said until then.

        Args:
            first: what the browser has said already.
            look: called with what the broker says first.

        Returns:
            Why it ended; None when it was the browser that went.
        """
        async with asyncio.TaskGroup() as group:
            up = group.create_task(self._to_broker(first))
            down = group.create_task(self._to_browser(look))
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            if not down.done():
                # The browser has gone, or the broker reads no more. What it says last still counts.
                self._listens = up.result() is not None
                if self._writer.can_write_eof():
                    self._writer.write_eof()
                await asyncio.wait((down,), timeout=LEAVE_TIMEOUT)
            up.cancel()
            down.cancel()
        if not up.cancelled():
            return up.result()
        return BROKER_CLOSED if down.cancelled() else down.result()

    async def _to_broker(self, data: bytes) -> Ended | None:
        try:
            while data:
                self._writer.write(data)
                async with asyncio.timeout(STALLED_TIMEOUT):
                    await self._writer.drain()
                data = await _receive(self._browser)
        except TimeoutError:
            return STALLED
        except _NotBinary:
            return NOT_MQTT
        except OSError:
            return BROKER_CLOSED
        return None

    async def _to_browser(self, look: Callable[[bytes], object]) -> Ended | None:
        try:
            async with asyncio.timeout(FIRST_TIMEOUT):
                data = await self._reader.read(CHUNK)
        except TimeoutError:
            return Ended(UNREACHABLE, "the broker took the connection and says nothing")
        except OSError:
            return BROKER_CLOSED
        look(data)
        try:
            while data:
                if self._listens:
                    async with asyncio.timeout(STALLED_TIMEOUT):
                        await self._browser.send_bytes(data)
                data = await self._reader.read(CHUNK)
        except TimeoutError:
            return STALLED
        except WebSocketDisconnect:
            return None
        except OSError:
            return BROKER_CLOSED
        return BROKER_CLOSED


class _NotBinary(Exception):
    """A frame of text came."""


async def _receive(browser: WebSocket) -> bytes:
    """The next bytes of a browser; none when it has gone.

    Raises:
        _NotBinary: they are text.
    """
    while True:
        message = await browser.receive()
        if message["type"] == "websocket.disconnect":
            return b""
        data = message.get("bytes")
        if data is None:
            raise _NotBinary
        if data:
            return bytes(data)


async def _close(browser: WebSocket, ended: Ended) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # it has gone meanwhile
        await browser.close(ended.code, ended.reason)


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate can't be trusted: {error.verify_message}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)


def _shortened(reason: str) -> str:
    """As much of it as a close frame holds."""
    return reason.encode()[:123].decode(errors="ignore")
