"""Where the dashboard listens, and as whom."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from icebus.schemas.errors import InvalidRequest

PORT = 8470
"""Unless told otherwise. Nobody has it registered."""

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Settings:
    """How browsers reach the dashboard.

    Attributes:
        host: the address to listen on.
        port: 0 for a free one.
        names: that browsers reach it by, besides addresses, ``localhost`` and this machine's name.
        certificate: file with ours and those that lead to its authority, for TLS; with ``key``.
        key: file with the certificate's key.
        without_tls: listen beyond this machine though passwords can be read on the way.
    """

    host: str = LOOPBACK
    port: int = PORT
    names: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None
    without_tls: bool = False

    def check(self) -> None:
        """Refuse what would give passwords away, or can't be.

        Raises:
            InvalidRequest: it is so.
        """
        if (self.certificate is None) != (self.key is None):
            raise InvalidRequest("a certificate and its key belong together: give both, or neither")
        if self.is_local or self.certificate is not None or self.without_tls:
            return
        raise InvalidRequest(
            f"beyond this machine, on {self.host}, people's passwords could be read on the way; "
            "give --certificate and --key, or, where something in front of it speaks TLS, "
            "--without-tls"
        )

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def all_names(self) -> tuple[str, ...]:
        """The names that it answers to."""
        return self.names if self.is_local else (*self.names, socket.gethostname())

    def url(self, port: int) -> str:
        """Its address, for people.

        Args:
            port: that it listens on.
        """
        scheme = "http" if self.certificate is None else "https"
        host = self.names[0] if self.names else self.host
        if ipaddress.ip_address(self.host).is_unspecified and not self.names:
            host = socket.gethostname()
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    def on_free_port(self) -> Settings:
        """The same, or on another port if somebody listens on ours."""
        try:
            self.listen().close()
        except InvalidRequest:
            return replace(self, port=0)
        return self

    def tls(self) -> ssl.SSLContext | None:
        """What browsers are shown; None where there is no TLS.

        Raises:
            InvalidRequest: the files can't be used.
        """
        if self.certificate is None or self.key is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_password)
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise InvalidRequest(
                f"the certificate {self.certificate} with the key {self.key} can't be used "
                f"({why}); both are PEM, and the certificate is the first in its file"
            ) from None
        return context

    def listen(self) -> socket.socket:
        """A socket that listens, for connections that end when their other end has gone.

        Raises:
            InvalidRequest: that is not possible there.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listening = socket.socket(family)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            # Taken over by each connection: one that takes nothing more would stay for ever.
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TAKEN_WITHIN)
            listening.bind((self.host, self.port))
            listening.listen(BACKLOG)
        except OSError as error:
            listening.close()
            raise InvalidRequest(
                f"can't listen on {self.host} port {self.port} ({error.strerror}); give another "
                "address or port with --listen"
            ) from None
        return listening


TAKEN_WITHIN = 60_000
"""Milliseconds for a browser's machine to take what was sent to it, before it counts as gone."""

BACKLOG = 128


def parse_listen(text: str) -> tuple[str, int]:
    """Address and port of ``HOST``, ``HOST:PORT`` or ``:PORT``.

    Raises:
        InvalidRequest: it is something else.
    """
    try:
        parts = urlsplit(f"//{text}")
        port = PORT if parts.port is None else parts.port
        host = parts.hostname or LOOPBACK
        address = LOOPBACK if host == "localhost" else str(ipaddress.ip_address(host))
    except ValueError:
        raise InvalidRequest(
            f"{text!r} is nothing to listen on; give an address of this machine and a port, such "
            f"as {LOOPBACK}:{PORT}, 0.0.0.0:{PORT} or [::1]:{PORT}"
        ) from None
    return address, port


def _no_password() -> str:
    # OpenSSL would ask on the terminal, where a service waits for ever.
    raise ValueError("the key has a password, which is not supported")
