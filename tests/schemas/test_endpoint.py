"""Health and metrics by HTTP: on loopback only, bounded, and without effect on the program."""

from __future__ import annotations

import http.client
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge, Metric

from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import InvalidRequest, ProgramMissing
from icebus.schemas.supervision import endpoint as module
from icebus.schemas.supervision import pages
from icebus.schemas.supervision.endpoint import CONNECTIONS, Endpoint, Page, Place
from icebus.schemas.supervision.health import Finding, Severity, Verdict
from icebus.schemas.supervision.pages import health_page, metrics_page
from icebus.schemas.supervision.registry import open_registry
from icebus.schemas.supervision.service import Supervision


class Program:
    """Something that is well, or not, and counts who looks."""

    def __init__(self) -> None:
        self.severity = Severity.OK
        self.looked = 0

    def look(self) -> Verdict:
        self.looked += 1
        return Verdict("test", (Finding("a", self.severity, "as it is"),))


@pytest.fixture
def program() -> Program:
    return Program()


def endpoint_of(program: Program, port: int = 0) -> Endpoint:
    return Endpoint(Place("127.0.0.1", port), {"/health": health_page(program.look)})


@pytest.fixture
def served(program: Program, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setattr(pages, "HEALTH_CACHED", 0.0)
    made = endpoint_of(program)
    made.start()
    yield made
    made.stop(Deadline.after(10))


def ask(
    port: int, path: str = "/health", method: str = "GET", host: str | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, headers={} if host is None else {"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("severity", "status"),
    [
        (Severity.OK, 200),
        (Severity.WARNING, 200),
        (Severity.CRITICAL, 503),
        (Severity.UNKNOWN, 503),
    ],
)
def test_given_a_verdict_then_the_status_and_the_body_say_it(
    served: Endpoint, program: Program, severity: Severity, status: int
) -> None:
    program.severity = severity

    answered, body = ask(served.port)

    assert answered == status
    assert json.loads(body)["code"] == int(severity)
    assert ask(served.port, method="HEAD") == (status, b"")


def test_given_many_who_ask_then_the_program_is_looked_at_once(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "HEALTH_CACHED", 3600.0)
    page = health_page(program.look)
    for _ in range(5):
        assert page().status == 200
    assert program.looked == 1


@pytest.mark.parametrize(
    ("path", "method", "host", "status"),
    [
        ("/secrets", "GET", None, 404),
        ("/health", "POST", None, 501),
        ("/health", "GET", "evil.example:80", 421),
        ("/health?x=1", "GET", "localhost:9101", 200),
        ("/health", "GET", "[::1]:9101", 200),
    ],
)
def test_given_another_request_then_only_what_is_meant_is_answered(
    served: Endpoint, path: str, method: str, host: str | None, status: int
) -> None:
    assert ask(served.port, path, method, host)[0] == status


def test_given_connections_that_say_nothing_then_they_are_few_and_are_ended(
    served: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_REQUEST", 0.5)
    silent = [
        socket.create_connection(("127.0.0.1", served.port), timeout=20)
        for _ in range(3 * CONNECTIONS)
    ]
    for each in silent:
        assert each.recv(1) == b"", "all are closed by the other side"
        each.close()

    until = time.monotonic() + 20
    while True:
        try:
            assert ask(served.port)[0] == 200
        except (OSError, http.client.HTTPException):
            assert time.monotonic() < until
        else:
            break
    handlers = [each for each in threading.enumerate() if "process_request" in each.name]
    assert len(handlers) <= CONNECTIONS


def test_given_connections_that_say_nothing_then_who_asks_is_answered_meanwhile(
    served: Endpoint,
) -> None:
    silent = [
        socket.create_connection(("127.0.0.1", served.port), timeout=20) for _ in range(CONNECTIONS)
    ]
    assert ask(served.port)[0] == 200
    for each in silent:
        each.close()


@pytest.mark.parametrize(
    "text",
    ["0.0.0.0:80", "192.168.0.1:80", "9101", "127.0.0.1", "127.0.0.1:99999", "x:1", "[::]:1"],
)
def test_given_a_place_that_others_reach_then_it_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"127\.0\.0\.1:9101"):
        Place.parse(text)


def test_given_a_place_on_loopback_then_it_is_read() -> None:
    assert Place.parse("127.0.0.1:9101") == Place("127.0.0.1", 9101)
    assert Place.parse("localhost:9101") == Place("127.0.0.1", 9101)
    assert Place.parse("[::1]:0") == Place("::1", 0)


def test_given_a_port_that_is_taken_then_that_is_said(served: Endpoint) -> None:
    with pytest.raises(InvalidRequest, match="choose another port"):
        endpoint_of(Program(), served.port)


# --- metrics --------------------------------------------------------------------------------------


class Broken:
    """A collector with a mistake."""

    def collect(self) -> Iterator[Metric]:
        raise RuntimeError("a mistake")


@pytest.fixture
def registry() -> CollectorRegistry:
    made = CollectorRegistry()
    Gauge("icebus_test_boards", "Boards.", registry=made).set(7)
    return made


def test_given_one_place_for_both_then_health_and_metrics_are_told_there(
    registry: CollectorRegistry, program: Program
) -> None:
    supervision = Supervision("127.0.0.1:0", "127.0.0.1:0", registry)
    supervision.tell_health("test", lambda _seconds: program.look())
    try:
        [port] = supervision.ports

        assert ask(port)[0] == 200
        status, body = ask(port, "/metrics")
    finally:
        supervision.stop()
    assert status == 200
    assert b"icebus_test_boards 7.0" in body


def test_given_no_metrics_wanted_then_none_are_told(program: Program) -> None:
    supervision = Supervision("127.0.0.1:0")
    supervision.tell_health("test", lambda _seconds: program.look())
    try:
        assert ask(supervision.ports[0], "/metrics")[0] == 404
    finally:
        supervision.stop()


def test_given_a_collector_with_a_mistake_then_that_is_said_and_nothing_ends(
    registry: CollectorRegistry,
) -> None:
    registry.register(Broken())

    page = metrics_page(registry)()

    assert page.status == 500
    assert b"the log says why" in page.body


@pytest.mark.parametrize("mistake", [ZeroDivisionError("once"), SystemExit(3), OSError("twice")])
def test_given_a_look_that_fails_when_asked_often_then_the_answer_is_500_and_it_is_logged_once(
    mistake: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def look() -> Verdict:
        raise mistake

    def no_page() -> Page:
        raise mistake

    pages_told = {"/health": health_page(look), "/other": no_page}
    endpoint = Endpoint(Place("127.0.0.1", 0), pages_told)
    endpoint.start()
    try:
        answers = [ask(endpoint.port) for _ in range(3)]
        assert len(caplog.records) == 1
        assert ask(endpoint.port, "/other")[0] == 500
    finally:
        endpoint.stop(Deadline.after(10))
    assert answers == [(500, b"this could not be found out; the log says why\n")] * 3


def test_given_metrics_and_not_what_they_need_then_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)

    with pytest.raises(ProgramMissing, match="--metrics needs icebus's extra 'metrics'"):
        open_registry("127.0.0.1:9102")
    assert open_registry("") is None


def test_given_metrics_for_others_to_reach_then_they_are_refused(
    registry: CollectorRegistry,
) -> None:
    with pytest.raises(InvalidRequest, match="metrics can be told on loopback only"):
        Supervision(None, "0.0.0.0:9101", registry)
