"""What every request has to be, and what every answer says to browsers.

A page of somebody else's, open in the same browser, must not get to the farm through us. It could
have its own name lead to our address, so we answer to our names and to bare addresses only. It
could open our WebSocket from afar, so whoever says where they come from must come from here.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from icebus.schemas.errors import Forbidden, IcebusError, InvalidRequest

log = logging.getLogger(__name__)

ALWAYS = frozenset({"localhost"})
"""Names that lead to no other machine, whatever a name server says."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # plots place what they draw by attributes
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""What the page may do: with what came from here, and nothing else."""

HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

MISDIRECTED = 421
"""Of HTTP: sent to a server that does not answer for that name."""


class Guard:
    """Refuses requests for other names and from other pages, before the application sees them.

    Args:
        application: what answers the others.
        names: that browsers reach us by, besides addresses and ``localhost``.
    """

    def __init__(self, application: ASGIApp, names: Iterable[str] = ()) -> None:
        self._application = application
        self._names = ALWAYS | {each.lower().rstrip(".") for each in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or have it answered."""
        if scope["type"] not in ("http", "websocket"):
            return await self._application(scope, receive, send)

        async def send_guarded(message: Message) -> None:
            if message["type"].endswith("response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            self._check(scope)
        except IcebusError as refused:
            log.warning("refused %s: %s", _who(scope), refused.message, extra={"subject": "guard"})
            return await _refuse(scope, receive, send_guarded, refused)
        return await self._application(scope, receive, send_guarded)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or len(origins) > 1:
            raise InvalidRequest("a request has one header Host and at most one Origin")
        here = split_authority(hosts[0], scope["scheme"])
        if here is None or not self._is_ours(here[0]):
            name = hosts[0] if here is None else here[0]
            raise _OtherName(
                f"this dashboard does not go by the name {name[:100]!r}; start it with --name "
                "NAME for each name that browsers reach it by"
            )
        if not origins or (scope["type"] == "http" and scope["method"] in ("GET", "HEAD")):
            return
        there = urlsplit(origins[0]) if origins[0].isprintable() else urlsplit("")
        if split_authority(there.netloc, there.scheme) != here:
            # A proxy that speaks TLS for us has another scheme than we, and with that another port.
            if there.netloc.lower() == hosts[0].lower():
                return
            raise Forbidden(
                f"another page asks, of {origins[0][:100]!r}; open the dashboard itself"
            )

    def _is_ours(self, name: str) -> bool:
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        # An address is what it says: no name server can have it lead elsewhere.
        return True


class _OtherName(Forbidden):
    """The request is for a name that is not ours."""


def split_authority(text: str, scheme: str) -> tuple[str, int] | None:
    """Host and port of what stands in a Host header or a URL; None if it is neither."""
    try:
        parts = urlsplit(f"//{text}")
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname or parts.username is not None or parts.path or parts.query:
        return None
    return parts.hostname.rstrip("."), port or DEFAULT_PORTS.get(scheme, 0)


async def _refuse(scope: Scope, receive: Receive, send: Send, refused: IcebusError) -> None:
    response = error_response(refused)
    if scope["type"] == "websocket":
        return await WebSocket(scope, receive, send).send_denial_response(response)
    return await response(scope, receive, send)


def error_response(error: IcebusError) -> JSONResponse:
    """An error, as programs and the page read it."""
    status = 403 if isinstance(error, Forbidden) else 400
    if isinstance(error, _OtherName):
        status = MISDIRECTED
    return JSONResponse({"code": error.code, "message": error.message}, status)


def _who(scope: Scope) -> str:
    client = scope.get("client")
    return f"{client[0]}" if client else "somebody"
