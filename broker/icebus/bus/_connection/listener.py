"""Looking at what listens where a broker should, when that does not answer us as one would.

Only asked where a connection has failed already: it makes a few of its own, each with a deadline.
"""

from __future__ import annotations

import secrets
import socket
import ssl
from contextlib import suppress
from typing import Final

from icebus.bus._broker_address.address import BrokerAddress
from icebus.bus._connection import reasons
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BrokerUnavailable

PATIENCE: Final = 0.8
"""Seconds to wait for each answer; whoever asks waits for at most three, and people for five."""

ALERT: Final = 0.3
"""Seconds for what a broker says by itself after a handshake, which is that it did not like it."""

CHUNK: Final = 512

_CONNACK: Final = b"\x20"
_TLS_ALERT: Final = b"\x15\x03"


def look(
    address: BrokerAddress, context: ssl.SSLContext | None, deadline: Deadline
) -> BrokerUnavailable | None:
    """What is the matter with what listens there; None if it may be a broker that is slow.

    Args:
        address: where.
        context: with which we speak TLS there; None where we do not.
        deadline: of all of it.
    """
    if context is not None and (found := _look_behind_tls(address, context, deadline)) is not None:
        return None if found[:1] == _CONNACK else reasons.no_broker(address, found)
    try:
        said = _ask(address, _hello(), deadline)
        if said is None:
            said = _ask(address, b"GET / HTTP/1.0\r\n\r\n", deadline)
            return reasons.no_broker(address, said) if said else None
        if said[:1] == _CONNACK:
            return None if context is None else reasons.no_tls(address)
        if said[:2] == _TLS_ALERT or (not said and _speaks_tls(address, deadline)):
            return reasons.needs_tls(address) if context is None else None
    except OSError:
        return None  # it is gone again: whoever tries next is told why
    return reasons.no_broker(address, said) if said else None


def _look_behind_tls(
    address: BrokerAddress, context: ssl.SSLContext, deadline: Deadline
) -> bytes | None:
    """What is said over TLS; None where none is spoken, or nothing said.

    Raises:
        BrokerUnavailable: it refuses our certificate, or has one that we can't trust.
    """
    try:
        with (
            _connected(address, deadline) as plain,
            context.wrap_socket(plain, server_hostname=address.host) as encrypted,
        ):
            # What it says of our certificate, before what we say makes it close the connection.
            encrypted.settimeout(ALERT)
            with suppress(TimeoutError):
                return encrypted.recv(CHUNK) or None
            encrypted.settimeout(PATIENCE)
            encrypted.sendall(_hello())
            return encrypted.recv(CHUNK) or None
    except ssl.SSLError as error:
        if isinstance(error, ssl.SSLCertVerificationError):
            raise reasons.of_exception(address, error) from None
        if (alert := reasons.of_alert(address, error)) is not None:
            raise alert from None
        return None
    except OSError:
        return None


def _ask(address: BrokerAddress, question: bytes, deadline: Deadline) -> bytes | None:
    """What is answered to it; nothing where the connection is ended, None for silence."""
    with _connected(address, deadline) as connection:
        connection.sendall(question)
        try:
            return connection.recv(CHUNK)
        except ConnectionError:
            return b""
        except TimeoutError:
            return None


def _speaks_tls(address: BrokerAddress, deadline: Deadline) -> bool:
    """Whether a handshake gets anywhere; nothing is said in it that a certificate would protect."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            _connected(address, deadline) as plain,
            context.wrap_socket(plain, server_hostname=address.host),
        ):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


def _connected(address: BrokerAddress, deadline: Deadline) -> socket.socket:
    patience = max(0.05, min(PATIENCE, deadline.remaining))
    return socket.create_connection((address.host, address.port), timeout=patience)


def _hello() -> bytes:
    """A CONNECT of MQTT 5 without credentials (section 3.1): any broker answers it, if with no."""
    name = f"look-{secrets.token_hex(8)}".encode()
    body = b"\x00\x04MQTT\x05\x02\x00\x0a\x00" + len(name).to_bytes(2, "big") + name
    return b"\x10" + bytes([len(body)]) + body
