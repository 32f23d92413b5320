"""Links that sign somebody in without a password being typed.

A link has a token in its fragment, which browsers send to nobody; the page exchanges it for a name
and a password. Tokens are signed with a key in a file that only the owner of the dashboard can
read, so that another program of the same owner makes them without asking the dashboard.

A token of a *sign-in* link is good once, for ten minutes, and not beyond a restart of the
dashboard. That of a *wall* link is good for as long as the key is: a screen on a wall signs in by
itself again after a power cut. It is for accounts that may read only.
"""

from __future__ import annotations

import hmac
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from icebus.schemas.errors import Forbidden, InvalidRequest

LIFETIME = 600.0
"""Seconds that a sign-in link is good for: time to walk to another room, none to be found later."""

CLOCK_STEP = 5.0
"""Seconds by which the clock may have been set back since a link was made."""

KEY_BYTES = 32
NONCE_BYTES = 16

LONGEST = 200
"""Characters of a token, generously: one has about 90."""


class Link(StrEnum):
    """What a link is for; its fragment begins with it."""

    SIGN_IN = "sign-in"
    WALL = "wall"


class Account(BaseModel):
    """What a link is exchanged for.

    Attributes:
        wall: for a screen that shows and asks nothing.
    """

    model_config = ConfigDict(frozen=True)

    user: str
    password: str = Field(repr=False)
    wall: bool = False


def new_key() -> str:
    """A key to sign tokens with. A secret: whoever has it signs in."""
    return secrets.token_urlsafe(KEY_BYTES)


def make_token(key: str, link: Link, now: float) -> str:
    """A token for one link.

    Args:
        key: of the dashboard that is to take it.
        link: what it is for.
        now: seconds since 1970.
    """
    said = f"{link}.{int(now * 1000)}.{secrets.token_urlsafe(NONCE_BYTES)}"
    return f"{said}.{_signature(key, said)}"


def link_url(base: str, key: str, link: Link, now: float) -> str:
    """The link, for the dashboard that is reached by ``base``."""
    return f"{base}/#{link}={make_token(key, link, now)}"


@dataclass(frozen=True)
class _Token:
    link: str
    issued: float
    nonce: str


class SignIn:
    """Exchanges tokens for the account of the dashboard's profile. Use it from one thread.

    Args:
        key: that tokens are signed with.
        link: the only links that are taken.
        account: reads name and password anew each time, for passwords change.
        now: the clock, in seconds since 1970.
    """

    def __init__(
        self,
        key: str,
        link: Link,
        account: Callable[[], Account],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.link = link
        self._key = key
        self._account = account
        self._now = now
        self._since = now()
        self._used: dict[str, float] = {}

    def redeem(self, text: str) -> Account:
        """The account that a token is good for.

        Raises:
            InvalidRequest: it is no token.
            Forbidden: it was used, has ended, or is none of ours.
        """
        token = self._read(text)
        if self.link is Link.SIGN_IN:
            self._use_up(token)
        return self._account()

    def _read(self, text: str) -> _Token:
        said, _, signature = text.rpartition(".")
        parts = said.split(".")
        if len(text) > LONGEST or len(parts) != 3 or not text.isascii():
            raise InvalidRequest("this is not a whole link; copy it anew, up to its very end")
        if not hmac.compare_digest(signature, _signature(self._key, said)):
            raise Forbidden(
                "this link is not of this dashboard, or of an earlier one; " + self._how
            )
        link, issued, nonce = parts
        if link != self.link:
            raise Forbidden(f"this dashboard takes no {link} links; " + self._how)
        return _Token(link, int(issued) / 1000, nonce)

    def _use_up(self, token: _Token) -> None:
        now = self._now()
        self._used = {each: end for each, end in self._used.items() if end > now}
        # What was used before a restart is not known any more.
        if token.issued < self._since or not -CLOCK_STEP <= now - token.issued <= LIFETIME:
            raise Forbidden("this link has ended; " + self._how)
        if token.nonce in self._used:
            raise Forbidden("this link was used already; " + self._how)
        self._used[token.nonce] = token.issued + LIFETIME + CLOCK_STEP

    @property
    def _how(self) -> str:
        return "`icebus dashboard --link` prints a new one, where the dashboard runs"


def _signature(key: str, said: str) -> str:
    digest = hmac.digest(key.encode(), said.encode("utf-8", "surrogatepass"), "sha256")
    return urlsafe_b64encode(digest).decode().rstrip("=")
