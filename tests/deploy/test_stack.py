"""The farm of compose.yaml: it comes up, serves those it knows, and survives restarts."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from icebus.bus import BrokerAddress
from icebus.client import PulseCountClient
from icebus.schemas.errors import IcebusError

if TYPE_CHECKING:
    from tests.deploy.conftest import Stack

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that images run on"),
    pytest.mark.timeout(400),
]

Eventually = Callable[[Callable[[], bool], str], None]
TIMEOUT = 60.0
CIRCUIT = Path(__file__).parents[2] / "examples" / "circuits" / "pulse_2khz.bin"


@pytest.fixture(scope="module")
def alice(stack: Stack) -> Path:
    """The credentials of a user who was let in while the farm was up."""
    return stack.admit("alice")


def asked(stack: Stack, credentials: Path, *argv: str) -> Any:
    done = stack.icebus(credentials, *argv, "-o", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def client(alice: Path) -> Iterator[PulseCountClient]:
    """A program of hers that runs through all that happens here."""
    with PulseCountClient(farm=alice, timeout=TIMEOUT) as connected:
        yield connected


def wait_available(client: PulseCountClient, count: int, eventually: Eventually) -> None:
    def enough() -> bool:
        try:
            return len(client.available(timeout=5)) == count
        except IcebusError:
            return False

    eventually(enough, f"{count} boards to be available")


def test_given_the_farm_when_a_user_evaluates_then_it_counts(
    stack: Stack, alice: Path, client: PulseCountClient, eventually: Eventually
) -> None:
    wait_available(client, 2, eventually)

    results = asked(stack, alice, "evaluate", "-n", "2", str(CIRCUIT))

    assert len({each["serial"] for each in results}) == 2
    assert all(1998 <= each["pulses"] <= 2000 for each in results)


def test_given_a_wrong_password_then_it_is_refused(stack: Stack, alice: Path) -> None:
    known = BrokerAddress.parse(str(alice))
    wrong = alice.with_name("wrong.json")
    known.as_user("alice", known.password[::-1]).credentials().write(wrong)

    done = stack.icebus(wrong, "devices")

    assert done.returncode != 0
    assert "refuse" in done.stderr
    assert "Traceback" not in done.stderr


def test_given_the_farm_when_services_restart_then_reservations_go_on(
    stack: Stack, client: PulseCountClient, eventually: Eventually
) -> None:
    wait_available(client, 2, eventually)
    known = credentials(stack)
    name = client.reserve(1, detached=True).id
    for service in ("control", "database", "broker", "virtual-worker"):
        code = stack.restart(service)

        def goes_on() -> bool:
            try:
                boards = client.attach(name, timeout=10)
                return len(list(boards.evaluate([CIRCUIT]))) == 1
            except IcebusError:
                return False

        eventually(goes_on, f"the reservation to go on after a restart of {service}")
        assert code == 0, service
        assert [each.id for each in client.reservations()] == [name]
    for service in stack.containers:
        stack.wait_healthy(service)
    assert credentials(stack) == known
    client.attach(name).release()


def credentials(stack: Stack) -> dict[str, str]:
    folders = [stack.volumes[f"{name}-credentials"] for name in ("control", "worker")]
    files = [path for folder in folders for path in folder.iterdir()]
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600, 0o600]
    return {str(path): path.read_text() for path in files}


def test_given_the_farm_then_only_broker_and_page_listen(stack: Stack) -> None:
    listening = {}
    for name, container in stack.containers.items():
        assert container.process is not None
        listening[name] = ports(group(container.process.pid))

    *of_broker, of_dashboard = stack.ports
    assert listening == {
        "broker": set(of_broker),
        "control": set(),
        "dashboard": {of_dashboard},
        "virtual-worker": set(),
    }


def test_given_the_page_then_a_link_signs_in_as_somebody_who_may_only_look(stack: Stack) -> None:
    printed = stack.containers["dashboard"].run("icebus", "dashboard", "--link")
    assert printed.returncode == 0, printed.stderr
    base, _, token = printed.stdout.strip().partition("/#sign-in=")
    assert base == f"http://localhost:{stack.ports[-1]}"
    request = urllib.request.Request(
        f"{base.replace('localhost', '127.0.0.1')}/sign-in",
        data=json.dumps({"token": token}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        assert json.load(response)["user"] == "dashboard"
    listing = stack.containers["broker"].run("icebus-broker", "list")
    assert re.search(r"^dashboard +observer", listing.stdout, re.MULTILINE), listing.stdout


def group(leader: int) -> list[int]:
    """The processes of a container: its first, and all that descend from it."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    members = [leader]
    for member in members:
        members += [pid for pid, parent in parents.items() if parent == member]
    return members


def said(pid: int) -> bytes:
    """A process's command line."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def ports(pids: list[int]) -> set[int]:
    """The TCP ports that processes listen on."""
    inodes = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(str(descriptor.readlink()))
            except FileNotFoundError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                found.add(int(words[1].rpartition(":")[2], 16))
    return found


def test_given_a_rack_that_is_killed_then_its_container_ends_to_be_started_again(
    stack: Stack, client: PulseCountClient, eventually: Eventually
) -> None:
    container = stack.containers["virtual-worker"]
    assert container.process is not None
    stack.wait_healthy("virtual-worker")
    rack = min(pid for pid in group(container.process.pid) if b"icebus-rack" in said(pid))

    os.kill(rack, signal.SIGKILL)
    code = container.process.wait(60)
    container.start()

    assert code == 128 + signal.SIGKILL
    wait_available(client, 2, eventually)
