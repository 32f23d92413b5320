"""What systemd is told, on a socket like its own: ready, alive while loops turn, stopping."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from icebus.schemas.deadline import Deadline
from icebus.schemas.supervision.systemd import ServiceManager
from icebus.schemas.supervision.watchdog import Watchdog

Turn = Callable[[], None]


class Systemd:
    """A socket as systemd has it for a service."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(20)
        self.environment = {
            "NOTIFY_SOCKET": address,
            "WATCHDOG_USEC": "2000000",
            "WATCHDOG_PID": str(os.getpid()),
            "PATH": "/bin",
        }

    def heard(self) -> list[str]:
        return self.socket.recv(4096).decode().split("\n")

    def silent(self) -> bool:
        self.socket.setblocking(False)
        try:
            self.socket.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(20)
        return False


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    abstract = f"@icebus-test-{os.getpid()}-{id(request)}"
    made = Systemd(str(tmp_path / "notify") if request.param == "path" else abstract)
    yield made
    made.socket.close()


def test_given_systemd_when_a_service_is_ready_then_it_is_told_once_and_children_are_not_heard(
    systemd: Systemd,
) -> None:
    manager = ServiceManager(systemd.environment)

    manager.ready("leads\nREADY=0 \x1b[1m")

    ready, status = systemd.heard()
    assert ready == "READY=1"
    assert status.startswith("STATUS=leads READY=0 \\x1b")
    assert systemd.environment == {"PATH": "/bin"}, "what we start must not speak for us"
    assert manager.watchdog == 2.0


def test_given_a_watchdog_of_another_process_then_nothing_is_said_to_it(systemd: Systemd) -> None:
    manager = ServiceManager({**systemd.environment, "WATCHDOG_PID": "1"})

    assert manager.there
    assert manager.watchdog is None


def test_given_no_systemd_then_nothing_is_sent_and_nothing_started() -> None:
    manager = ServiceManager({})
    watchdog = Watchdog(manager, {}, lambda: "x")

    watchdog.start()
    watchdog.stop(Deadline.after(1))

    assert not manager.there
    assert "watchdog" not in {thread.name for thread in threading.enumerate()}


def test_given_a_socket_that_is_gone_then_the_program_goes_on(tmp_path: Path) -> None:
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).alive()
    ServiceManager({"NOTIFY_SOCKET": "/" + "x" * 300}).alive()


def test_given_loops_that_turn_then_systemd_hears_of_it_and_a_stuck_one_ends_that(
    systemd: Systemd,
) -> None:
    asked: list[Turn] = []
    watchdog = Watchdog(
        ServiceManager(systemd.environment),
        {"quick": lambda turn: turn(), "slow": asked.append},
        lambda: "works",
    )
    watchdog._manager.status("works")
    assert systemd.heard() == ["STATUS=works"]
    watchdog._ask_all()

    watchdog.check()
    assert systemd.silent(), "one of them has not turned"
    watchdog.check()
    assert len(asked) == 1, "it is asked once, however long that takes"

    asked.pop()()
    watchdog.check()
    assert systemd.heard() == ["WATCHDOG=1"]
    assert len(asked) == 1, "and again for the next time"


def test_given_a_loop_that_can_not_be_asked_then_it_is_asked_again(systemd: Systemd) -> None:
    full = True

    def post(turn: Turn) -> None:
        if full:
            raise BlockingIOError("too much waits")
        turn()

    watchdog = Watchdog(ServiceManager(systemd.environment), {"busy": post}, lambda: "works")
    watchdog._ask_all()
    watchdog.check()
    assert systemd.heard() == ["STATUS=works"]
    assert systemd.silent()

    full = False
    watchdog.check()
    watchdog.check()

    assert systemd.heard() == ["WATCHDOG=1"]


def test_given_a_service_then_its_life_is_ready_alive_stopping(systemd: Systemd) -> None:
    watchdog = Watchdog(
        ServiceManager(systemd.environment), {"loop": lambda turn: turn()}, lambda: "works"
    )
    assert watchdog.interval <= 1.0, "at most half of the two seconds that systemd waits"

    watchdog.start()
    assert systemd.heard() == ["READY=1", "STATUS=works"]
    heard = systemd.heard()
    while heard == ["STATUS=works"]:
        heard = systemd.heard()
    assert heard == ["WATCHDOG=1"]
    watchdog.stop(Deadline.after(5))
    while (heard := systemd.heard()) == ["WATCHDOG=1"]:
        pass
    assert heard[0] == "STOPPING=1"
