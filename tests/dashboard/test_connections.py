"""Connections to the dashboard itself: with its own certificate, and those that never speak."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
from tests.dashboard.conftest import Serve
from tests.dashboard.scripted_broker import CONNECT, TIMEOUT, ScriptedBroker, heard, read
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from icebus.broker.tls.authority import Authority, Issued
from icebus.client.dashboard import connections
from icebus.client.dashboard.settings import Settings
from icebus.client.dashboard.starting import Dashboard
from icebus.schemas.errors import InvalidRequest

UPGRADE = (
    b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
)


@pytest.fixture
def authority() -> Issued:
    return Authority.create()


@pytest.fixture
def encrypted(tmp_path: Path, authority: Issued) -> Settings:
    """With a certificate for localhost."""
    made = Authority(authority.certificate, authority.key).for_broker(["localhost", "127.0.0.1"])
    certificate, key = tmp_path / "page.pem", tmp_path / "page.key"
    certificate.write_text(made.certificate)
    key.write_text(made.key)
    return Settings(port=0, names=("localhost",), certificate=certificate, key=key)


def test_given_a_certificate_then_browsers_speak_tls_with_it_and_the_link_says_so(
    serve: Serve, scripted: ScriptedBroker, encrypted: Settings, authority: Issued
) -> None:
    dashboard = serve(scripted.address, encrypted)
    port = dashboard.running.listens[1]
    assert dashboard.running.make_link().startswith(f"https://localhost:{port}/#sign-in=")
    assert dashboard.running.answers
    with connect(
        f"wss://localhost:{port}/mqtt",
        ssl=ssl.create_default_context(cadata=authority.certificate),
        subprotocols=[Subprotocol("mqtt")],
        proxy=None,
        open_timeout=TIMEOUT,
    ) as browser:
        browser.send(CONNECT)
        broker = scripted.take()
        assert read(broker, 1) == CONNECT
        broker.sendall(b"\x20\x03\x00\x00\x00")
        assert heard(browser, 5) == b"\x20\x03\x00\x00\x00"


def test_given_files_that_are_no_certificate_then_it_does_not_start(
    serve: Serve, scripted: ScriptedBroker, encrypted: Settings
) -> None:
    assert encrypted.certificate is not None
    encrypted.certificate.write_text("nonsense")
    with pytest.raises(InvalidRequest, match="can't be used"):
        serve(scripted.address, encrypted)
    encrypted.certificate.unlink()
    with pytest.raises(InvalidRequest, match="No such file"):
        serve(scripted.address, encrypted)


@pytest.fixture
def hasty(serve: Serve, scripted: ScriptedBroker, monkeypatch: pytest.MonkeyPatch) -> Dashboard:
    """One that waits for requests for a moment only."""
    monkeypatch.setattr(connections, "REQUEST_TIMEOUT", 0.3)
    return serve(scripted.address)


@pytest.mark.parametrize(
    "said", [b"", b"GET /farm.json HT", b"GET /farm.json HTTP/1.1\r\nHost: localhost\r\n"]
)
def test_given_a_request_that_never_comes_whole_then_its_connection_ends(
    hasty: Dashboard, said: bytes
) -> None:
    with socket.create_connection(hasty.running.listens, TIMEOUT) as connection:
        connection.sendall(said)
        assert ended(connection)


def test_given_a_second_request_that_never_comes_whole_then_its_connection_ends(
    hasty: Dashboard,
) -> None:
    with socket.create_connection(hasty.running.listens, TIMEOUT) as connection:
        connection.sendall(b"GET /farm.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /fa")
        assert ended(connection)


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x10\x20\x00\x04MQTT\x05\x02\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        UPGRADE.replace(b"Sec-WebSocket-Key", b"X"),
        UPGRADE.replace(b"localhost", b"\xff"),
        UPGRADE.replace(b"localhost", b"evil.example"),
        b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_given_what_no_browser_sends_then_it_is_refused_and_others_are_served(
    hasty: Dashboard, said: bytes
) -> None:
    with socket.create_connection(hasty.running.listens, TIMEOUT) as connection:
        connection.sendall(said)
        assert b" 200 " not in (answer := everything(connection))
        assert b" 101 " not in answer
        assert b" 500 " not in answer
    assert hasty.running.answers


def everything(connection: socket.socket) -> bytes:
    """What comes until the connection ends."""
    data = bytearray()
    try:
        while chunk := connection.recv(1 << 16):
            data += chunk
    except ConnectionResetError:
        pass
    return bytes(data)


def ended(connection: socket.socket) -> bool:
    """Waits until the connection ends."""
    everything(connection)
    return True
