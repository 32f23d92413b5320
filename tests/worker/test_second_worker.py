"""Two workers where one should be: of one name, or on the same ports."""

from __future__ import annotations

import fcntl
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.worker.waiting import TIMEOUT

from icebus.broker.embedded import EmbeddedBroker
from icebus.bus import Bus
from icebus.schemas.boards.rack import RackBoard
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.errors import AlreadyRunning
from icebus.schemas.message import now
from icebus.schemas.topics import DEVICE
from icebus.worker.hardware import port_holder
from icebus.worker.hardware.rack import RackDiscovery
from icebus.worker.states.core import absent
from icebus.worker.worker import Worker

if TYPE_CHECKING:
    from tests.worker.conftest import MakeRack, StartProcess, StartWorker
    from tests.worker.peers import Peers

pytestmark = pytest.mark.timeout(90)


def worker_again(broker: EmbeddedBroker, rack: Any, directory: Path) -> Any:
    """A worker started by mistake, as in a shell."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "icebus.worker.cli"),
            *("--rack", str(rack.directory), "--directory", str(directory)),
        ],
        env={**os.environ, "ICEBUS_BROKER": broker.address("w1").url()},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


def test_given_a_worker_when_a_second_is_started_then_that_ends_naming_it_and_nothing_changes(
    broker: EmbeddedBroker,
    peers: Peers,
    make_rack: MakeRack,
    make_board: Callable[..., RackBoard],
    start_process: StartProcess,
    tmp_path: Path,
) -> None:
    rack = make_rack(make_board(1), make_board(2), window=0.05)
    first = start_process(rack)
    for serial in ("BOARD1", "BOARD2"):
        peers.wait_state(serial, DeviceState.READY)
    session = peers.worker_states[-1].session
    states, reports = len(peers.worker_states), len(peers.reports["BOARD1"])
    done = worker_again(broker, rack, tmp_path / "other")
    assert done.returncode == 1
    for told in ("worker w1 runs already", platform.node(), str(first.process.pid), session):
        assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert len(peers.worker_states) == states
    assert len(peers.reports["BOARD1"]) == reports
    peers.reserve("BOARD1", "BOARD2")


def test_given_a_worker_that_was_killed_when_started_at_once_then_it_comes_up(
    peers: Peers,
    make_rack: MakeRack,
    make_board: Callable[..., RackBoard],
    start_process: StartProcess,
) -> None:
    rack = make_rack(make_board(1), window=0.05)
    peers.reports["BOARD1"] = []
    for _ in range(3):
        mark, began = peers.mark("BOARD1"), time.monotonic()
        running = start_process(rack)
        peers.wait_since("BOARD1", mark, DeviceState.READY)
        assert time.monotonic() - began < 20  # most of which is Python's start on a busy machine
        running.kill()


def test_given_a_run_that_ends_because_of_another_then_that_is_told_to_who_runs_it(
    broker: EmbeddedBroker, start_worker: StartWorker, make_rack: MakeRack
) -> None:
    rack = make_rack()
    start_worker(rack)
    second = Worker(broker.address("w1"), [RackDiscovery(rack.directory)], Path("unused"))
    with pytest.raises(AlreadyRunning):
        second.start(Deadline.after(TIMEOUT))


def test_given_what_another_run_reported_last_then_it_is_corrected(
    broker: EmbeddedBroker,
    peers: Peers,
    make_rack: MakeRack,
    make_board: Callable[..., RackBoard],
    start_worker: StartWorker,
) -> None:
    rack = make_rack(make_board(1))
    start_worker(rack)
    peers.wait_state("BOARD1", DeviceState.READY)
    mark = peers.mark("BOARD1")
    other = Bus(broker.address("w1"), "w1")
    other.connect(Deadline.after(TIMEOUT))
    for serial in ("BOARD1", "NEVER"):
        absence = DeviceReport(
            serial=serial, session="another", state=DeviceState.ABSENT, since=now()
        )
        other.publish(DEVICE(worker="w1", serial=serial), absence)
    peers.wait_since("BOARD1", mark, DeviceState.ABSENT)
    peers.wait_since("BOARD1", mark, DeviceState.READY)
    peers.wait(lambda: peers.reports.get("NEVER", [])[-1:] == [None], "what is not there to go")
    other.close(Deadline.after(1))


# --- ports that somebody else holds ---------------------------------------------------------------


def test_given_a_port_that_another_program_holds_when_it_lets_go_then_the_board_comes_back(
    peers: Peers,
    make_rack: MakeRack,
    make_board: Callable[..., RackBoard],
    start_worker: StartWorker,
) -> None:
    rack = make_rack(make_board(1))
    (tty,) = rack.directory.glob("**/tty")
    other = os.open(tty, os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    start_worker(rack)
    report = peers.wait_state("BOARD1", DeviceState.ABSENT)
    assert "is held by" in report.reason
    # For longer than a port that does not open is borne with, it is not the board's fault.
    time.sleep((absent.REOPENS + 2) * absent.REOPEN_AFTER)
    states = {each.state for each in peers.reports["BOARD1"] if each is not None}
    assert states <= {DeviceState.TESTING, DeviceState.ABSENT}
    mark = peers.mark("BOARD1")
    os.close(other)
    peers.wait_since("BOARD1", mark, DeviceState.READY)


def test_given_two_workers_on_the_same_boards_when_the_first_goes_then_the_second_has_them(
    broker: EmbeddedBroker,
    peers: Peers,
    make_rack: MakeRack,
    make_board: Callable[..., RackBoard],
    start_process: StartProcess,
    tmp_path: Path,
) -> None:
    rack = make_rack(make_board(1), window=0.05)
    first = start_process(rack)
    peers.wait_state("BOARD1", DeviceState.READY)
    session = peers.worker_states[-1].session
    second = Worker(broker.address("w2"), [RackDiscovery(rack.directory)], tmp_path / "w2")
    second.start(Deadline.after(TIMEOUT))
    try:
        held = peers.wait(lambda: said_of(peers, DeviceState.ABSENT, session), "it to be held")
        assert held is not None
        assert f"is held by process {first.process.pid}" in held.reason
        peers.reserve("BOARD1")
        first.terminate()
        peers.wait(lambda: said_of(peers, DeviceState.READY, session), "the other to have it")
    finally:
        second.stop(Deadline.after(TIMEOUT))


def said_of(peers: Peers, state: DeviceState, session: str) -> DeviceReport | None:
    """What another run than that reports of the board last, if it is in that state."""
    others = [r for r in peers.reports["BOARD1"] if r is not None and r.session != session]
    return others[-1] if others and others[-1].state is state else None


def test_given_a_port_that_nobody_known_holds_then_no_process_is_named(tmp_path: Path) -> None:
    assert port_holder.holder_of(tmp_path / "none") == "another program"
