"""The health of a standing broker, and of the farm around it, as commands and by HTTP tell it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from icebus.broker.access import Principal
from icebus.broker.directory import BrokerDirectory, Settings
from icebus.broker.embedded import free_port
from icebus.broker.health import Facts, judge, look
from icebus.broker.tls.certificates import Listening
from icebus.schemas.supervision.facts import Space
from icebus.schemas.supervision.health import Severity
from icebus.schemas.topics import Role

NOW = 1_800_000_000.0
WELL = Facts(directory="/b", ports={1883: True, 8883: True}, now=NOW, installed=NOW - 1)
Eventually = Callable[[Callable[[], bool]], None]


@pytest.mark.parametrize(
    ("changed", "severity", "says"),
    [
        ({}, Severity.OK, "listens on 2 ports"),
        ({"problem": "/b can't be read"}, Severity.UNKNOWN, "can't be read"),
        ({"configured": False}, Severity.CRITICAL, "icebus-broker init"),
        ({"runs": False}, Severity.CRITICAL, "no broker runs"),
        ({"answers": "it says nothing"}, Severity.CRITICAL, "does not answer"),
        ({"ports": {8883: False}}, Severity.CRITICAL, "nothing listens on port 8883"),
        ({"own_ends": NOW + 86_400}, Severity.WARNING, "the broker's certificate ends"),
        ({"ends": {"lab1": NOW - 1}}, Severity.WARNING, "the certificate of lab1 ended"),
        ({"space": Space(Path("/b"), 5)}, Severity.CRITICAL, "the disk is full"),
    ],
)
def test_given_a_broker_then_what_is_wrong_with_it_is_said(
    changed: dict[str, Any], severity: Severity, says: str
) -> None:
    verdict = judge(replace(WELL, **changed))

    assert verdict.severity is severity
    assert says in verdict.line


@pytest.fixture
def files(tmp_path: Path) -> BrokerDirectory:
    made = BrokerDirectory(tmp_path / "broker")
    tls = Listening(
        address="127.0.0.1", port=free_port(), component_port=free_port(), hosts=("localhost",)
    )
    made.configure(Settings(port=free_port(), tls=tls))
    made.add_principals([Principal(id="main", role=Role.CONTROL)])
    return made


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket as systemd has it for a service."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "notify"))
        made.settimeout(30)
        yield made


def heard(systemd: socket.socket, line: str) -> None:
    """Wait until systemd is told that."""
    while line not in systemd.recv(4096).decode().split("\n"):
        pass


def _hears(systemd: socket.socket) -> bool:
    try:
        heard(systemd, "WATCHDOG=1")
    except TimeoutError:
        return False
    return True


@pytest.fixture
def running(
    files: BrokerDirectory, systemd: socket.socket
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port()
    words = ["-m", "icebus.broker.cli.app", "run", "-d", str(files.path)]
    process = subprocess.Popen(
        [sys.executable, *words, "--health", f"127.0.0.1:{port}"],
        env={
            **os.environ,
            "NOTIFY_SOCKET": systemd.getsockname(),
            "WATCHDOG_USEC": "1000000",
        },
    )
    yield process, port
    process.terminate()
    process.wait(30)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, timeout=60
    )


@pytest.mark.usefixtures("mosquitto")
def test_given_a_broker_that_does_not_run_then_the_exit_codes_say_so(
    files: BrokerDirectory, tmp_path: Path
) -> None:
    health = ("icebus.broker.cli.app", "health", "-d")

    assert command(*health, str(files.path)).returncode == 2
    assert command(*health, str(files.path), "--only-critical").returncode == 1
    assert command(*health, str(tmp_path / "none")).returncode == 2
    assert command(*health).returncode == 3, "wrong usage is no word on the broker"
    assert command(*health, str(files.path), "--timeout", "soon").returncode == 3
    assert command("icebus.control.cli", "health", "--broker", "nothing").returncode == 3
    assert command("icebus.worker.cli", "health", "--broker", "nothing").returncode == 3


@pytest.mark.usefixtures("mosquitto")
def test_given_a_running_broker_then_it_is_well_until_mosquitto_stands_still(
    files: BrokerDirectory, running: tuple[subprocess.Popen[bytes], int], eventually: Eventually
) -> None:
    eventually(lambda: look(files, 5).severity is Severity.OK)
    done = command("icebus.broker.cli.app", "health", "-d", str(files.path), "-o", "json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["status"] == "ok"

    connection = http.client.HTTPConnection("127.0.0.1", running[1], timeout=30)
    connection.request("GET", "/health")
    answer = connection.getresponse()
    assert answer.status == 200
    text = answer.read().decode()
    secrets = [each.password for each in files.principals.values() if each.password]
    assert secrets
    assert not [each for each in secrets if each in text]
    connection.close()

    pid = files.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        assert look(files, 1).severity is Severity.CRITICAL
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.usefixtures("mosquitto")
def test_given_systemd_then_a_mosquitto_that_stands_still_lets_its_watchdog_lapse(
    files: BrokerDirectory, running: tuple[subprocess.Popen[bytes], int], systemd: socket.socket
) -> None:
    first = systemd.recv(4096).decode().split("\n")
    assert first[0] == "READY=1"
    assert first[1].startswith("STATUS=listening on ")
    assert look(files, 5).severity is Severity.OK, "it is ready only when it serves"
    heard(systemd, "WATCHDOG=1")

    pid = files.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    systemd.settimeout(3)
    try:
        # What was asked before may still be answered.
        assert not all(_hears(systemd) for _ in range(5))
    finally:
        os.kill(pid, signal.SIGCONT)
    systemd.settimeout(30)
    heard(systemd, "WATCHDOG=1")

    running[0].terminate()
    heard(systemd, "STOPPING=1")
