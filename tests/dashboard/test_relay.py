"""Bytes between a browser and a broker: all of them, in order, and none waits for ever."""

from __future__ import annotations

import contextlib
import socket
import threading
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.dashboard.conftest import Serve
from tests.dashboard.scripted_broker import CONNECT, TIMEOUT, ScriptedBroker, browse, heard, read
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from icebus.client.dashboard import connections, relay
from icebus.client.dashboard.starting import Dashboard

CONNACK = b"\x20\x03\x00\x00\x00"
"""A broker's answer that takes somebody in."""


@pytest.fixture
def relayed(serve: Serve, scripted: ScriptedBroker) -> Dashboard:
    return serve(scripted.address)


def closed(browser: ClientConnection) -> tuple[int, str]:
    """How a browser's connection ended."""
    with pytest.raises(ConnectionClosed) as ended:
        browser.recv(TIMEOUT)
    assert ended.value.rcvd is not None
    return ended.value.rcvd.code, ended.value.rcvd.reason


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.lists(st.binary(min_size=0, max_size=5000), max_size=8),
    answered=st.lists(st.binary(min_size=1, max_size=200_000), min_size=1, max_size=5),
)
def test_given_any_frames_when_carried_then_each_side_has_the_same_bytes(
    relayed: Dashboard, scripted: ScriptedBroker, said: list[bytes], answered: list[bytes]
) -> None:
    with browse(relayed) as browser:
        browser.send(CONNECT)
        for frame in said:
            browser.send(frame)
        broker = scripted.take()
        expected = CONNECT + b"".join(said)
        assert read(broker, len(expected)) == expected
        for chunk in answered:
            broker.sendall(chunk)
        assert heard(browser, len(b"".join(answered))) == b"".join(answered)
    assert broker.recv(1) == b"", "the broker is told that the browser has gone"


def test_given_a_broker_that_closes_then_the_browser_has_all_it_said_and_is_told(
    relayed: Dashboard, scripted: ScriptedBroker
) -> None:
    with browse(relayed) as browser:
        browser.send(CONNECT)
        broker = scripted.take()
        broker.sendall(b"x" * 1_000_000)
        broker.shutdown(socket.SHUT_WR)
        assert heard(browser, 1_000_000) == b"x" * 1_000_000
        assert closed(browser) == (4002, "the broker closed the connection")


def test_given_a_browser_that_says_farewell_and_goes_then_the_broker_reads_it_though_it_was_writing(
    relayed: Dashboard, scripted: ScriptedBroker
) -> None:
    with browse(relayed) as browser:
        browser.send(CONNECT)
        broker = scripted.take()
        assert read(broker, 1) == CONNECT
        broker.sendall(b"much" * 10_000)
        browser.send(b"\xe0\x00")
    assert read(broker, 3) == b"\xe0\x00"


def test_given_nobody_listens_at_the_broker_then_the_browser_is_told_so(
    serve: Serve, scripted: ScriptedBroker
) -> None:
    away = serve(scripted.address)
    scripted.close()
    with browse(away) as browser:
        browser.send(CONNECT)
        code, reason = closed(browser)
    assert code == 4001
    assert "can't be reached" in reason


def test_given_a_broker_that_takes_connections_and_says_nothing_then_the_browser_is_told_so(
    relayed: Dashboard, scripted: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "FIRST_TIMEOUT", 0.3)
    with browse(relayed) as browser:
        browser.send(CONNECT)
        scripted.take()
        assert closed(browser) == (4001, "the broker took the connection and says nothing")


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", b"\x00", "text"])
def test_given_what_is_not_mqtt_then_no_connection_to_the_broker_is_opened(
    relayed: Dashboard, first: bytes | str
) -> None:
    with browse(relayed) as browser:
        browser.send(first)
        assert closed(browser)[0] == 4004


def test_given_text_in_the_middle_then_the_connection_ends(
    relayed: Dashboard, scripted: ScriptedBroker
) -> None:
    with browse(relayed) as browser:
        browser.send(CONNECT)
        broker = scripted.take()
        browser.send("text")
        assert closed(browser)[0] == 4004
        assert read(broker, 2) == CONNECT


def test_given_a_browser_that_says_nothing_then_it_is_sent_away(
    relayed: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "FIRST_TIMEOUT", 0.3)
    with browse(relayed) as browser:
        assert closed(browser)[0] == 4004


def test_given_a_websocket_without_the_subprotocol_then_it_is_refused(relayed: Dashboard) -> None:
    with pytest.raises(InvalidStatus) as refused:
        browse(relayed, subprotocols=None)
    assert refused.value.response.status_code == 400


def signed_in(browser: ClientConnection, scripted: ScriptedBroker) -> socket.socket:
    """Has the broker take a browser in; the connection on its side."""
    browser.send(CONNECT)
    broker = scripted.take()
    assert read(broker, 1) == CONNECT
    broker.sendall(CONNACK)
    assert heard(browser, len(CONNACK)) == CONNACK
    return broker


def test_given_as_many_connections_as_there_may_be_then_one_more_is_told_and_later_taken(
    serve: Serve, scripted: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay.Relay.__init__, "__defaults__", (2,))
    full = serve(scripted.address)
    with browse(full) as first, browse(full) as second:
        signed_in(first, scripted)
        broker = signed_in(second, scripted)
        with browse(full) as third:
            assert closed(third)[0] == 4003
        broker.close()
        while not taken(full, scripted):  # until the place is free, which is soon
            pass


def test_given_places_held_by_browsers_that_do_not_sign_in_then_they_make_way(
    serve: Serve, scripted: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay.Relay.__init__, "__defaults__", (2,))
    full = serve(scripted.address)
    with browse(full) as silent, browse(full) as begun:
        begun.send(CONNECT)
        scripted.take()
        with browse(full) as honest:
            assert closed(silent)[0] == 4003
            signed_in(honest, scripted)
            with browse(full) as another:
                assert closed(begun)[0] == 4003
                signed_in(another, scripted)


def test_given_idle_connections_without_a_request_then_requests_are_still_answered(
    relayed: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "WAITING", 2)
    address = urlsplit(relayed.running.url)
    assert address.port is not None
    with contextlib.ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection((address.hostname, address.port), TIMEOUT))
            for _ in range(4)
        ]
        assert idle[0].recv(1) == idle[1].recv(1) == b""
        idle[3].sendall(b"GET /farm.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle[3].recv(12) == b"HTTP/1.1 200"


def taken(dashboard: Dashboard, scripted: ScriptedBroker) -> bool:
    """Whether a browser gets through."""
    with browse(dashboard) as browser:
        try:
            browser.send(CONNECT)
            scripted.take().sendall(CONNACK)
            return heard(browser, len(CONNACK)) == CONNACK
        except (ConnectionClosed, TimeoutError):
            return False


def sent_until_full(connection: socket.socket, most: int) -> int:
    """How much was taken at the other end, or on the way, until nothing more is."""
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < most:
            sent += connection.send(b"\x5a" * (1 << 16))
    return sent


def test_given_a_browser_that_reads_nothing_then_the_broker_is_slowed_down_and_nothing_is_lost(
    relayed: Dashboard, scripted: ScriptedBroker
) -> None:
    total = 64 << 20
    with browse(relayed, max_queue=1) as browser:
        browser.send(CONNECT)
        broker = scripted.take()
        broker.settimeout(1.0)
        sent = sent_until_full(broker, total)
        assert sent < total, "what one side does not read is not piled up"
        broker.settimeout(TIMEOUT)
        rest = threading.Thread(target=broker.sendall, args=(b"\x5a" * 100_000,), daemon=True)
        rest.start()
        assert heard(browser, sent + 100_000).count(b"\x5a") == sent + 100_000
        rest.join(TIMEOUT)


def test_given_a_broker_that_reads_nothing_then_the_browser_is_slowed_down_and_nothing_is_lost(
    relayed: Dashboard, scripted: ScriptedBroker
) -> None:
    chunk, count = b"\xa5" * (1 << 20), 40
    with browse(relayed) as browser:
        browser.send(CONNECT)
        broker = scripted.take()
        done = threading.Event()

        def send() -> None:
            for _ in range(count):
                browser.send(chunk)
            done.set()

        sending = threading.Thread(target=send, daemon=True)
        sending.start()
        assert not done.wait(1.0), "40 MiB are nowhere while the broker reads nothing"
        assert len(read(broker, 1 + count * len(chunk))) == 1 + count * len(chunk)
        sending.join(TIMEOUT)


def test_given_a_frame_larger_than_the_broker_takes_packets_then_the_connection_ends(
    relayed: Dashboard, scripted: ScriptedBroker
) -> None:
    with browse(relayed) as browser:
        browser.send(CONNECT)
        scripted.take()
        with contextlib.suppress(ConnectionClosed):
            browser.send(b"x" * (3 << 20))
        with pytest.raises(ConnectionClosed):
            browser.recv(TIMEOUT)
