"""Why a broker can't be used: the true reason and a remedy that fits it, within five seconds."""

from __future__ import annotations

import http.server
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from icebus.broker.embedded import EmbeddedBroker, free_port
from icebus.broker.mosquitto import find_program
from icebus.broker.process import Child
from icebus.bus import BrokerAddress, Bus
from icebus.bus._connection.reasons import Cause, of_exception
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import BrokerUnavailable, IcebusError, NotAuthorized

ALLOWED = 4.0
"""Seconds that clients give the broker."""

AT_ONCE = 15.0
"""Seconds within which it is said on a busy machine what is not tried again, or is tried for no
longer than ``ALLOWED``: half of what is allowed where trying again would be the mistake."""


def problem(address: BrokerAddress, seconds: float = ALLOWED) -> tuple[IcebusError, float]:
    """Why one can't connect there, and after how many seconds that was said."""
    bus = Bus(address, "alice")
    began = time.monotonic()
    with pytest.raises(IcebusError) as caught:
        bus.connect(Deadline.after(seconds))
    return caught.value, time.monotonic() - began


def cause(error: IcebusError) -> str:
    assert error.message.endswith(str(error.details["remedy"])) or isinstance(error, NotAuthorized)
    return str(error.details["cause"])


def at(port: int, *, tls: bool = False, host: str = "127.0.0.1") -> BrokerAddress:
    return BrokerAddress(host, port, "alice", "x", tls=tls)


# --- things that listen


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for ``localhost`` that nobody has signed, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder, "localhost")
    return folder


def make_certificate(folder: Path, name: str) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )


@contextmanager
def tls_broker(broker: EmbeddedBroker, folder: Path, *more: str) -> Iterator[int]:
    """A second Mosquitto on the broker's people, with TLS only; its port."""
    port = free_port()
    kept = ("password_file", "acl_file", "allow_anonymous", "user ", "max_packet_size")
    lines = (broker.directory / "mosquitto.conf").read_text().splitlines()
    text = [line for line in lines if line.startswith(kept)]
    text += [f"listener {port} 127.0.0.1", f"certfile {folder / 'cert.pem'}"]
    text += [f"keyfile {folder / 'key.pem'}", *more]
    configuration = folder / f"{port}.conf"
    configuration.write_text("\n".join(text) + "\n")
    child = Child([find_program("mosquitto"), "-c", str(configuration)], folder / f"{port}.log")
    try:
        deadline = Deadline.after(10)
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert not deadline.expired, (folder / f"{port}.log").read_text()
                threading.Event().wait(0.01)
        yield port
    finally:
        child.stop(Deadline.after(5))


@contextmanager
def serving(
    handle: Callable[[socket.socket], object],
    context: ssl.SSLContext | None = None,
    port: int = 0,
) -> Iterator[int]:
    """A server of our own; its port."""
    with socket.create_server(("127.0.0.1", port)) as server:
        kept: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            kept.append(connection)
            try:
                if context is not None:
                    connection = context.wrap_socket(connection, server_side=True)
                    kept.append(connection)
                handle(connection)
            except OSError:
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for each in kept:
                each.close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Log nothing."""


@contextmanager
def web_server() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), QuietHandler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(5)


def nothing(_connection: socket.socket) -> None:
    """Say nothing, and keep the connection."""


def served_by(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))


# --- what lasts is said at once


@pytest.mark.usefixtures("mosquitto")
def test_given_a_certificate_nobody_vouches_for_then_it_is_said_at_once(
    broker: EmbeddedBroker, certificate: Path
) -> None:
    with tls_broker(broker, certificate) as port:
        error, took = problem(at(port, tls=True, host="localhost"), 30)
    assert cause(error) == Cause.CERTIFICATE
    assert "SSL_CERT_FILE" in error.message
    assert "icebus up" not in error.message
    assert took < AT_ONCE


@pytest.mark.usefixtures("mosquitto", "trusted")
def test_given_a_trusted_certificate_then_one_connects(
    broker: EmbeddedBroker, certificate: Path
) -> None:
    with tls_broker(broker, certificate) as port:
        address = replace(broker.address("alice"), host="localhost", port=port, tls=True)
        bus = Bus(address, "alice")
        bus.connect(Deadline.after(10))
        bus.close(Deadline.after(5))


@pytest.mark.usefixtures("mosquitto", "trusted")
def test_given_a_certificate_for_another_name_then_the_remedy_is_the_name(
    broker: EmbeddedBroker, certificate: Path
) -> None:
    with tls_broker(broker, certificate) as port:
        error, _ = problem(at(port, tls=True, host="127.0.0.1"), 30)
    assert cause(error) == Cause.CERTIFICATE
    assert "name that stands in the certificate" in error.message


@pytest.mark.parametrize(("code", "remedy"), [(9, "clock"), (10, "renew")])
def test_given_a_certificate_of_another_time_then_the_remedy_fits(code: int, remedy: str) -> None:
    failed = ssl.SSLCertVerificationError()
    failed.verify_code, failed.verify_message = code, "certificate is of another time"
    error = of_exception(at(8883, tls=True), failed)
    assert cause(error) == Cause.CERTIFICATE
    assert remedy in error.message


@pytest.mark.usefixtures("mosquitto", "trusted")
def test_given_a_broker_that_wants_a_client_certificate_then_it_is_said(
    broker: EmbeddedBroker, certificate: Path
) -> None:
    more = (f"cafile {certificate / 'cert.pem'}", "require_certificate true")
    with tls_broker(broker, certificate, *more) as port:
        error, took = problem(at(port, tls=True, host="localhost"), 30)
    assert cause(error) == Cause.CLIENT_CERTIFICATE
    assert "port for people" in error.message
    assert took < AT_ONCE


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_given_a_file_of_authorities_that_is_none_then_it_is_named(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "lab.pem"
    if content is not None:
        named.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(named))
    failed = ssl.SSLCertVerificationError()
    failed.verify_code, failed.verify_message = 20, "unable to get local issuer certificate"

    error = of_exception(at(8883, tls=True), failed)

    assert cause(error) == Cause.CERTIFICATE
    assert f"SSL_CERT_FILE names {str(named)!r}, which " in error.message


@pytest.mark.usefixtures("mosquitto")
def test_given_mqtt_on_a_port_with_tls_then_the_remedy_is_mqtts(
    broker: EmbeddedBroker, certificate: Path
) -> None:
    with tls_broker(broker, certificate) as port:
        error, took = problem(at(port, host="localhost"), 30)
    assert cause(error) == Cause.NEEDS_TLS
    assert "mqtts://" in error.message
    assert took < AT_ONCE


def test_given_mqtts_on_a_port_without_tls_then_the_remedy_is_its_other_port(
    broker: EmbeddedBroker,
) -> None:
    error, took = problem(at(broker.port, tls=True), 30)
    assert cause(error) == Cause.NO_TLS
    assert "8883" in error.message
    assert took < AT_ONCE


@pytest.mark.parametrize("tls", [False, True])
def test_given_a_web_server_then_it_is_named(tls: bool) -> None:
    with web_server() as port:
        error, took = problem(at(port, tls=tls), 30)
    assert cause(error) == Cause.NO_BROKER
    assert "web server" in error.message
    assert took < AT_ONCE


@pytest.mark.usefixtures("trusted")
def test_given_a_web_server_with_tls_then_it_is_named(certificate: Path) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(512)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with serving(answer, served_by(certificate)) as port:
        error, took = problem(at(port, tls=True, host="localhost"), 30)
    assert cause(error) == Cause.NO_BROKER
    assert "web server" in error.message
    assert took < AT_ONCE


@pytest.mark.parametrize("tls", [False, True])
def test_given_something_else_then_what_it_says_is_shown_without_its_control_codes(
    tls: bool,
) -> None:
    with serving(lambda connection: connection.sendall(b"SSH-2.0-\x1b[31mOpen\r\n")) as port:
        error, took = problem(at(port, tls=tls), 30)
    assert cause(error) == Cause.NO_BROKER
    assert "SSH-2.0" in error.message
    assert "\x1b" not in error.message
    assert took < AT_ONCE


@pytest.mark.parametrize(("user", "password"), [("alice", "wrong"), ("nobody", "x")])
def test_given_wrong_credentials_then_it_is_said_at_once(
    broker: EmbeddedBroker, user: str, password: str
) -> None:
    error, took = problem(broker.address("alice").as_user(user, password), 30)
    assert isinstance(error, NotAuthorized)
    assert cause(error) == Cause.CREDENTIALS
    assert f"icebus-broker add {user}" in error.message
    assert took < AT_ONCE


# --- what may pass is tried again, and said in time


@pytest.mark.parametrize("tls", [False, True])
def test_given_a_host_that_accepts_and_says_nothing_then_that_is_said(tls: bool) -> None:
    with serving(nothing) as port:
        error, took = problem(at(port, tls=tls))
    assert cause(error) in (Cause.SILENT, Cause.NO_WAY)
    assert "says nothing" in error.message
    assert took < AT_ONCE


def test_given_a_host_that_ends_every_connection_then_it_is_said_in_time() -> None:
    with serving(lambda connection: connection.close()) as port:
        _, plain = problem(at(port))
        _, encrypted = problem(at(port, tls=True))
    assert plain < AT_ONCE
    assert encrypted < AT_ONCE


@pytest.mark.parametrize(
    ("host", "started_by", "remedy"),
    [
        ("127.0.0.1", "icebus up", "`icebus up` starts it"),
        ("127.0.0.1", "", "ask whoever runs the farm on this machine"),
        ("127.0.0.2", "", "ask whoever runs the farm on 127.0.0.2"),
    ],
)
def test_given_a_port_nobody_listens_on_then_the_remedy_fits_whose_farm_it_is(
    host: str, started_by: str, remedy: str
) -> None:
    error, took = problem(replace(at(free_port(), host=host), started_by=started_by))
    assert cause(error) == Cause.NOTHING_LISTENS
    assert remedy in error.message
    assert ("icebus up" in error.message) == bool(started_by)
    assert took < AT_ONCE


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 70])
def test_given_a_name_that_does_not_resolve_then_it_is_said(host: str) -> None:
    error, took = problem(at(1883, host=host))
    assert cause(error) == Cause.UNRESOLVED
    assert "icebus up" not in error.message
    assert took < AT_ONCE


def test_given_a_name_service_that_does_not_answer_then_it_is_said_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over = threading.Event()

    def ask(*_: object, **__: object) -> list[object]:
        over.wait(30)
        raise socket.gaierror("too late")

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    error, took = problem(at(1883, host="farm.example"))
    over.set()
    assert cause(error) == Cause.UNRESOLVED
    assert took < AT_ONCE


def test_given_nothing_that_helps_when_trying_then_it_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    problem(at(free_port()), 2.5)
    assert [each.message.count("nothing listens") for each in caplog.records] == [1]


# --- in the middle of a run


def test_given_a_user_who_is_removed_then_whoever_waits_hears_within_seconds(
    broker: EmbeddedBroker, caplog: pytest.LogCaptureFixture
) -> None:
    from icebus.broker.directory import BrokerDirectory

    bus = Bus(broker.address("alice"), "alice")
    told: list[IcebusError] = []
    heard = threading.Event()

    def listen(error: IcebusError) -> None:
        told.append(error)
        if isinstance(error, NotAuthorized):
            heard.set()

    bus.on_problem(listen)
    bus.connect(Deadline.after(10))
    assert bus.refusal is None
    BrokerDirectory(broker.directory).remove_principal("alice")
    assert heard.wait(5)
    assert isinstance(bus.refusal, NotAuthorized)
    assert bus.problem is bus.refusal
    threading.Event().wait(3)  # further attempts are made, and say nothing new
    assert len([each for each in told if isinstance(each, NotAuthorized)]) == 1
    assert len([each for each in caplog.records if "refused user" in each.message]) == 1
    bus.close(Deadline.after(5))


def test_given_a_broker_that_is_away_then_the_reason_is_known_and_it_is_waited_for(
    broker: EmbeddedBroker,
) -> None:
    bus = Bus(broker.address("alice"), "alice")
    away, back = threading.Event(), threading.Event()
    bus.connect(Deadline.after(10))
    bus.on_problem(lambda e: away.set() if e.details["cause"] == Cause.NOTHING_LISTENS else None)
    broker.stop(Deadline.after(5))
    assert away.wait(10)
    assert isinstance(bus.problem, BrokerUnavailable)
    assert bus.refusal is None
    broker.start(Deadline.after(10))
    bus.on_connected(back.set)
    assert back.wait(15)
    assert bus.problem is None
    bus.close(Deadline.after(5))


def test_given_something_else_in_the_brokers_place_when_connecting_again_then_it_is_named(
    broker: EmbeddedBroker,
) -> None:
    bus = Bus(broker.address("alice"), "alice")
    bus.connect(Deadline.after(10))
    named = threading.Event()
    bus.on_problem(lambda e: named.set() if e.details["cause"] == Cause.NO_BROKER else None)
    broker.stop(Deadline.after(5))
    with serving(say_http, port=broker.port):
        assert named.wait(10)
        assert bus.refusal is None
    bus.close(Deadline.after(1))


def say_http(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    connection.close()
