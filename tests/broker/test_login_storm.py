"""Storms of failed logins at a real Mosquitto, beside somebody else's work."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.connections import Connect, Inbox, published, subscribed

from icebus.broker.access import Principal
from icebus.broker.directory import BrokerDirectory, Settings
from icebus.broker.embedded import EmbeddedBroker, free_port
from icebus.broker.log_files import keep_bounded
from icebus.broker.logins import allowances, reader, sockets
from icebus.broker.logins.allowances import network_of
from icebus.broker.tls.certificates import Listening
from icebus.schemas.deadline import Deadline
from icebus.schemas.topics import CLIENT_STATE, Role

pytestmark = pytest.mark.usefixtures("mosquitto")

ROOT = Path(__file__).parents[2]

Eventually = Callable[[Callable[[], bool]], None]


AT_ONCE = 100


@pytest.fixture(autouse=True)
def _less_than_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of what an address may have, so that a storm is short."""
    monkeypatch.setattr(allowances, "AT_ONCE", float(AT_ONCE))


def text(value: bytes) -> bytes:
    return len(value).to_bytes(2) + value


def login(user: bytes, password: bytes) -> bytes:
    body = text(b"MQTT") + b"\x05\xc2\x00\x3c\x00" + text(b"somebody") + text(user) + text(password)
    return b"\x10" + bytes([len(body)]) + body


WRONG = login(b"alice", b"wrong")


def attempt(
    port: int, source: str, packet: bytes = WRONG, tls: ssl.SSLContext | None = None
) -> bytes:
    """What the broker answers; nothing when it ends the connection.

    Raises:
        TimeoutError: it does not even take the connection.
    """
    with socket.socket() as raw:
        raw.settimeout(1)
        raw.bind((source, 0))
        raw.connect(("127.0.0.1", port))  # the kernel answers, however busy the broker is
        raw.settimeout(20)
        with suppress(ConnectionError, ssl.SSLError):
            wrapped = tls.wrap_socket(raw, server_hostname="localhost") if tls else raw
            with wrapped as connection:
                connection.sendall(packet)
                return connection.recv(64)
    return b""


def storm(port: int, source: str, **options: object) -> int:
    """Log in wrongly until shut out; returns how many attempts were answered."""
    for answered in range(10 * int(AT_ONCE)):
        try:
            attempt(port, source, **options)  # type: ignore[arg-type]
        except TimeoutError:
            return answered
    pytest.fail("nobody was shut out")


def failures(broker: EmbeddedBroker) -> dict[str, int]:
    found = broker.logins.failures(time.monotonic(), 3600)
    return {str(network.network_address): count for network, (count, _ago) in found.items()}


def test_when_somebody_storms_then_he_is_shut_out_and_others_go_on(
    broker: EmbeddedBroker,
    connect: Connect,
    inbox: type[Inbox],
    caplog: pytest.LogCaptureFixture,
) -> None:
    alice = connect("alice")
    heard = inbox()
    subscribed(alice, CLIENT_STATE, heard, user="alice")
    before = socket.create_connection(("127.0.0.1", broker.port), source_address=("127.0.0.7", 0))

    with caplog.at_level(logging.WARNING, "icebus.broker.logins"):
        answered = storm(broker.port, "127.0.0.7")

    assert AT_ONCE - 10 <= answered <= 3 * AT_ONCE
    assert "a login from 127.0.0.7 failed: wrong name or password" in caplog.text
    assert caplog.text.count("127.0.0.7/32 has had more than 1000 connections that came to") == 1
    assert "it is shut out for 60 s" in caplog.text
    published(alice, CLIENT_STATE(user="alice", client="c"), b"here", interval=10)
    heard.wait(1)
    connect("bob")
    with before:
        # What was there before goes on.
        before.settimeout(5)
        before.sendall(WRONG)
        assert before.recv(64)


def test_when_the_time_has_passed_or_mosquitto_starts_anew_then_nobody_is_forgotten(
    broker: EmbeddedBroker, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icebus.broker.logins.allowances.SHUT_OUT", 8.0)
    storm(broker.port, "127.0.0.7")
    began = time.monotonic()
    broker.stop(Deadline.after(5))
    broker.start(Deadline.after(5))

    def taken() -> bool:
        with suppress(TimeoutError):
            attempt(broker.port, "127.0.0.7")
            return True
        return False

    eventually(taken)
    assert time.monotonic() - began > 5


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[tuple[EmbeddedBroker, Listening, ssl.SSLContext]]:
    files = BrokerDirectory(tmp_path / "tls")
    tls = Listening(
        address="127.0.0.1", port=free_port(), component_port=free_port(), hosts=("localhost",)
    )
    settings = Settings(port=free_port(), tls=tls)
    files.configure(settings)
    files.add_principals([Principal(id="alice", role=Role.USER)])
    broker = EmbeddedBroker(files.path, [], port=settings.port, tls=tls)
    broker.start(Deadline.after(10))
    context = ssl.create_default_context(cafile=str(files.certificates.authority))
    yield broker, tls, context
    broker.stop(Deadline.after(5))


def test_given_tls_when_logins_fail_in_any_way_then_each_is_counted_for_its_address(
    encrypted: tuple[EmbeddedBroker, Listening, ssl.SSLContext],
    caplog: pytest.LogCaptureFixture,
    eventually: Eventually,
) -> None:
    broker, tls, trusting = encrypted
    distrusting = ssl.create_default_context()
    with caplog.at_level(logging.WARNING, "icebus.broker.logins"):
        attempt(tls.port, "127.0.0.11", tls=trusting)  # a wrong password
        attempt(tls.port, "127.0.0.12", tls=distrusting)  # its certificate is not taken
        attempt(tls.port, "127.0.0.13")  # no TLS
        attempt(tls.component_port, "127.0.0.14", tls=trusting)  # no certificate
        attempt(broker.port, "127.0.0.15", b"GET / HTTP/1.0\r\n\r\n")
        with socket.create_connection(("127.0.0.1", tls.port), source_address=("127.0.0.16", 0)):
            pass
        counted = {f"127.0.0.{number}" for number in range(11, 16)}
        eventually(lambda: counted <= set(failures(broker)))
    assert all(failures(broker)[address] == 1 for address in counted)
    for address in counted:
        assert f"a login from {address} failed" in caplog.text
    assert "127.0.0.16" not in failures(broker)
    assert "from 127.0.0.16" not in caplog.text, "who only looks is no news"


@pytest.mark.parametrize("component", [False, True])
def test_given_tls_when_somebody_storms_then_he_is_shut_out(
    encrypted: tuple[EmbeddedBroker, Listening, ssl.SSLContext], component: bool
) -> None:
    _broker, tls, trusting = encrypted
    port = tls.component_port if component else tls.port
    assert storm(port, "127.0.0.17", tls=trusting) <= 3 * AT_ONCE
    with pytest.raises(TimeoutError):
        attempt(tls.component_port, "127.0.0.17")
    attempt(tls.component_port, "127.0.0.18")


def test_given_a_system_that_does_not_let_us_then_it_is_said_once_with_the_remedy(
    broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sockets, "_PIDFD_GETFD", -1)
    with caplog.at_level(logging.WARNING, "icebus.broker.logins"):
        for source in ("127.0.0.21", "127.0.0.22"):
            for _ in range(int(AT_ONCE) + 100):
                attempt(broker.port, source)
        broker.stop(Deadline.after(5))
    assert caplog.text.count("nobody can be shut out here") == 1
    assert "127.0.0.22/32 has had more than" in caplog.text
    assert "it is shut out" not in caplog.text
    # What is shipped for fail2ban finds them; `<SUBNET>` is its word for an address.
    filters = (ROOT / "broker/fail2ban/icebus-broker.conf").read_text()
    pattern = next(each for each in filters.splitlines() if each.startswith("failregex"))
    regex = pattern.partition("=")[2].strip().replace("<SUBNET>", r"(?P<subnet>[0-9a-f.:]+(/\d+)?)")
    said = [f"{record.levelname} {record.name}: {record.getMessage()}" for record in caplog.records]
    forged = "10.0.0.9/32 has had more than 1000 connections that came to nothing"
    said.append(f"INFO mosquitto: Outgoing messages are being dropped for client {forged}")
    said.append(f"INFO mosquitto: … client x WARNING icebus.broker.logins.watch: {forged}")
    said.append(f"farm icebus-broker[1]: INFO mosquitto: client f[1]: {said[0]}")
    matched = [found["subnet"] for each in said if (found := re.search(regex, each))]
    assert matched == ["127.0.0.21/32", "127.0.0.22/32"]


def test_when_we_are_stopped_then_mosquitto_goes_on(tmp_path: Path) -> None:
    """Its log has a reader that reads nothing: lines are lost, and nobody waits for them."""
    broker = EmbeddedBroker(tmp_path / "broker", [Principal(id="alice", role=Role.USER)])
    broker.start(Deadline.after(5))
    assert broker._reader is not None
    stuck = os.pipe()
    try:
        os.set_blocking(stuck[1], False)
        with suppress(BlockingIOError):
            while True:
                os.write(stuck[1], b"x" * 4096)
        # The same pipe in the place of Mosquitto's own would block it; ours says so, and drops.
        with pytest.raises(BlockingIOError):
            os.write(stuck[1], b"x")
        flags = Path(f"/proc/{broker.child.process.pid}/fdinfo/2").read_text()
        octal = next(line for line in flags.splitlines() if line.startswith("flags:"))
        assert int(octal.split()[1], 8) & os.O_NONBLOCK
    finally:
        for each in stuck:
            os.close(each)
        broker.stop(Deadline.after(5))


# --- the log ------------------------------------------------------------------------------------


def test_given_a_storm_then_the_log_has_some_lines_of_it_and_says_how_many_are_left_out(
    broker: EmbeddedBroker, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "LINES_AT_ONCE", 20.0)
    for _ in range(200):
        attempt(broker.port, "127.0.0.1")
    broker.stop(Deadline.after(5))
    log = (broker.directory / "mosquitto.log").read_text()
    assert log.count("not authorised") < 200
    assert "not authorised" in log


def test_given_a_log_that_grows_then_its_file_is_bounded_and_one_before_it_is_kept(
    broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    log, before = broker.directory / "mosquitto.log", broker.directory / "mosquitto.log.1"
    with log.open("ab") as file:
        file.write(b"an old line\n" * 1_000_000)
    eventually(before.exists)
    eventually(lambda: log.stat().st_size < 1000)
    assert before.stat().st_size <= 4 << 20
    assert before.stat().st_mode & 0o077 == 0
    attempt(broker.port, "127.0.0.1")
    eventually(lambda: "not authorised" in log.read_text())


def test_given_a_log_with_a_link_in_the_place_of_the_one_before_then_it_is_not_followed(
    tmp_path: Path,
) -> None:
    log, victim = tmp_path / "a.log", tmp_path / "victim"
    log.write_bytes(b"x" * 100)
    victim.write_text("mine")
    (tmp_path / "a.log.1").symlink_to(victim)
    with pytest.raises(Exception, match="is a link"):
        keep_bounded(log, 10)
    assert victim.read_text() == "mine"


def test_given_no_log_or_a_short_one_then_nothing_is_done(tmp_path: Path) -> None:
    assert not keep_bounded(tmp_path / "none.log")
    (tmp_path / "short.log").write_text("short")
    assert not keep_bounded(tmp_path / "short.log")
    assert not (tmp_path / "short.log.1").exists()


def test_when_mosquitto_is_killed_then_its_reader_ends(
    broker: EmbeddedBroker, eventually: Eventually
) -> None:
    assert broker._reader is not None
    thread = broker._reader._thread
    os.kill(broker.child.process.pid, signal.SIGKILL)
    eventually(lambda: not thread.is_alive())
    assert network_of("nobody") is None
