"""Where a broker is and who we are there, as one URL."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote, urlsplit

from icebus.schemas.errors import InvalidRequest
from icebus.schemas.topics import DEFAULT_ROOT

PLAIN_PORT = 1883
TLS_PORT = 8883

_EXAMPLE = "a broker's URL looks like mqtt://user:password@host:1883"
_ROOT = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


@dataclass(frozen=True)
class BrokerAddress:
    """A broker and the identity to use there.

    As a URL: ``mqtt://user:password@host:port/root`` (``mqtts`` for TLS); the root of the topics
    is ``icebus/v1`` when the path is empty.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    root: str = DEFAULT_ROOT
    tls: bool = False

    @classmethod
    def parse(cls, url: str) -> BrokerAddress:
        """Read a URL.

        Raises:
            InvalidRequest: it is not one, or names no user.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise InvalidRequest(_EXAMPLE) from None
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or port == 0:
            raise InvalidRequest(_EXAMPLE)
        if not parts.username:
            raise InvalidRequest("the broker's URL names no user: mqtt://user:password@host:1883")
        root = parts.path.strip("/") or DEFAULT_ROOT
        check_root(root)
        tls = parts.scheme == "mqtts"
        return cls(
            host=parts.hostname,
            port=port or (TLS_PORT if tls else PLAIN_PORT),
            user=unquote(parts.username),
            password=unquote(parts.password or ""),
            root=root,
            tls=tls,
        )

    def url(self) -> str:
        """The address as a URL, with its password: never log it."""
        scheme = "mqtts" if self.tls else "mqtt"
        identity = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{identity}@{host}:{self.port}/{self.root}"

    def as_user(self, user: str, password: str) -> BrokerAddress:
        """The same broker for somebody else."""
        return replace(self, user=user, password=password)


def check_root(root: str) -> None:
    """Refuse what can't be the root of topics.

    Raises:
        InvalidRequest: a level is empty or holds a wildcard.
    """
    if _ROOT.fullmatch(root) is None:
        raise InvalidRequest(f"{root!r} can't be the root of topics; leave it out for the default")
