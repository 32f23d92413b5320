"""Whole workers: in this process, in one of their own, and with boards that are made to fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar

from tests.worker.peers import Peers
from tests.worker.racks import Rack, rack_board
from tests.worker.waiting import TIMEOUT, eventually

from icebus.broker.access import Principal
from icebus.broker.embedded import EmbeddedBroker
from icebus.schemas.boards.rack import RackFile, edit_rack_file
from icebus.schemas.deadline import Deadline
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import IcebusError
from icebus.schemas.topics import Role
from icebus.worker.hardware.rack import RackDiscovery
from icebus.worker.worker import Worker

K = TypeVar("K", bound=Hashable)

CIRCUITS = Path(__file__).parents[2] / "examples" / "circuits"

PEOPLE = (
    Principal(id="main", role=Role.CONTROL),
    Principal(id="w1", role=Role.WORKER),
    Principal(id="alice", role=Role.USER),
    Principal(id="bob", role=Role.USER),
)


def make_worker(broker: EmbeddedBroker, journals: Path, *racks: Rack, **options: Any) -> Worker:
    discoveries = [RackDiscovery(rack.directory) for rack in racks]
    worker = Worker(broker.address("w1"), discoveries, journals, **options)
    worker.start(Deadline.after(TIMEOUT))
    return worker


class FaultyFarm(Generic[K]):
    """A worker with a rack and a broker of its own, and boards that are made to fail.

    Args:
        directory: for all of it.
        broker_class: of the broker.
        keys: one board for each, by which the test calls it.
        firmware: what they run.
    """

    def __init__(
        self,
        directory: Path,
        broker_class: type[EmbeddedBroker],
        keys: Iterable[K],
        firmware: str = "pulse_count",
    ) -> None:
        self.serials = {key: f"BOARD{number}" for number, key in enumerate(keys, 1)}
        self.bitstream = (CIRCUITS / "pulse_2khz.bin").read_bytes()
        self._broker = broker_class(directory / "broker", list(PEOPLE))
        self._broker.start(Deadline.after(TIMEOUT))
        boards = [rack_board(number, firmware) for number in range(1, len(self.serials) + 1)]
        self._rack = Rack(directory / "rack", boards)
        self._rack.wait()
        self.peers = Peers(self._broker)
        self._worker = make_worker(self._broker, directory / "journals", self._rack)

    def __enter__(self) -> FaultyFarm[K]:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.stop(Deadline.after(TIMEOUT))
        self.peers.close()
        self._rack.stop()
        self._broker.stop(Deadline.after(TIMEOUT))

    def inject_faults(self) -> None:
        """Have each board fail in the way that is its key."""
        faults = {serial: key for key, serial in self.serials.items()}
        self._rack.change(lambda board: {"fault": faults[board.serial]})

    def inject(self, key: K) -> None:
        """Have one board fail in the way that is its key."""
        serial = self.serials[key]
        self._rack.change(lambda board: {"fault": key if board.serial == serial else board.fault})

    def repair_all(self) -> None:
        """End all faults."""
        self._rack.change(lambda _: {"fault": None})

    def move(self, serial: str, port: str) -> None:
        """Plug a board elsewhere."""
        self._rack.change(lambda board: {"port": port if board.serial == serial else board.port})

    def reset_hub(self) -> None:
        """All boards go from the bus at once, and come back at once."""
        marks = {serial: self.peers.mark(serial) for serial in self.serials.values()}
        boards = self._rack.boards
        edit_rack_file(self._rack.directory, lambda _: RackFile())
        for serial, mark in marks.items():
            self.peers.wait_since(serial, mark, DeviceState.ABSENT)
        edit_rack_file(self._rack.directory, lambda _: RackFile(boards=boards))
        for serial, mark in marks.items():
            self.peers.wait_since(serial, mark, DeviceState.READY)

    def measure_until_result(self, serial: str) -> str:
        """Evaluate until that gives a result: a slow machine may look like a broken board."""
        deadline = Deadline.after(TIMEOUT)
        while True:
            deadline.check("a result")
            self.peers.wait_state(serial, DeviceState.SERVING)
            try:
                (evaluation,) = self.peers.evaluate(serial, self.bitstream)
            except IcebusError:
                continue
            if self.peers.wait_outcome(evaluation)[0] == "results":
                return "results"

    def wait_for_helpers(self) -> None:
        """Wait until nothing is done on threads besides the worker's own."""
        eventually(
            lambda: not [t for t in threading.enumerate() if t.name.startswith("board-")],
            "the end of the helpers",
        )


WORKER_WITH_SHORT_DEADLINES = """
from icebus.worker.states.core import testing
from icebus.worker.cli import main
testing.LISTEN = 0.1
main()
"""
"""A worker that does not listen as long as boards of other labs need."""


class WorkerProcess:
    """A worker as it is run: a process of its own."""

    def __init__(self, broker: EmbeddedBroker, rack: Rack, journals: Path) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", WORKER_WITH_SHORT_DEADLINES),
                *("--rack", str(rack.directory), "--directory", str(journals)),
            ],
            env={**os.environ, "ICEBUS_BROKER": broker.address("w1").url()},
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT)
