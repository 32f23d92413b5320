"""The dashboard as an application: the page, what it is told, and its way to the broker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from icebus.client.dashboard.farm_document import FarmDocument
from icebus.client.dashboard.guard import Guard, error_response
from icebus.client.dashboard.page import Page
from icebus.client.dashboard.relay import SUBPROTOCOL, Relay
from icebus.client.dashboard.sign_in import LONGEST, Account, SignIn
from icebus.schemas.errors import IcebusError, InvalidRequest

log = logging.getLogger(__name__)

LARGEST = LONGEST + 100
"""Bytes of a request with a token."""

BODY_TIMEOUT = 5.0
"""Seconds for such a request to come whole."""


class _Asked(BaseModel):
    token: str


def make_application(
    farm: FarmDocument,
    relay: Relay,
    sign_in: SignIn | None = None,
    names: Iterable[str] = (),
    page: ASGIApp | None = None,
) -> Starlette:
    """The application.

    Args:
        farm: what the page is told.
        relay: the way to the broker.
        sign_in: exchanges links for accounts; None where there are no links.
        names: that browsers reach it by, besides addresses and ``localhost``.
        page: serves the page's files; those that were built, when left out.
    """

    async def tell_farm(_: Request) -> Response:
        return JSONResponse(farm.model_dump(mode="json"))

    async def exchange(request: Request) -> Response:
        try:
            account = _sign_in(sign_in, await _body(request))
        except IcebusError as refused:
            who = request.client.host if request.client else "somebody"
            log.warning("refused a link of %s: %s", who, refused.message, extra={"subject": who})
            return error_response(refused)
        log.info("a %s link was used", "wall" if account.wall else "sign-in")
        return JSONResponse(account.model_dump(mode="json"))

    async def carry(browser: WebSocket) -> None:
        if SUBPROTOCOL not in browser.scope["subprotocols"]:
            refused = InvalidRequest(f"this WebSocket speaks the subprotocol {SUBPROTOCOL!r} only")
            return await browser.send_denial_response(error_response(refused))
        return await relay.carry(browser)

    return Starlette(
        routes=[
            Route("/farm.json", tell_farm),
            Route("/sign-in", exchange, methods=["POST"]),
            WebSocketRoute("/mqtt", carry),
            Mount("/", page or Page()),
        ],
        middleware=[Middleware(Guard, names=tuple(names))],
    )


def _sign_in(sign_in: SignIn | None, body: bytes) -> Account:
    if sign_in is None:
        raise InvalidRequest("this dashboard has no links; sign in with name and password")
    try:
        asked = _Asked.model_validate_json(body)
    except ValidationError:
        raise InvalidRequest('a link is exchanged with {"token": "…"}') from None
    return sign_in.redeem(asked.token)


async def _body(request: Request) -> bytes:
    """What a request brings.

    Raises:
        InvalidRequest: it is too much, too late, or no JSON.
    """
    # A form of another page can't say so without asking us first.
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise InvalidRequest("a link is exchanged as application/json")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LARGEST:
                    raise InvalidRequest(f"a token has at most {LONGEST} characters")
    except (TimeoutError, ClientDisconnect):
        raise InvalidRequest("the request did not come whole; try again") from None
    return bytes(body)
