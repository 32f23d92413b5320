"""``python -m bench.fleet``: a farm of a thousand devices, on workers that have none.

What is measured is control and the broker; that boards would be slower does not matter to them.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, cast

import typer

from bench.measure import Measure, median, quantile
from bench.processes import cpu
from bench.table import show
from icebus.broker.access import Principal
from icebus.broker.embedded import EmbeddedBroker
from icebus.broker.process import Child
from icebus.bus import BrokerAddress, Bus, Incoming
from icebus.client import PulseCountClient
from icebus.schemas.components import WorkerHeartbeat
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError
from icebus.schemas.kinds.pulsecount import KIND
from icebus.schemas.message import decode
from icebus.schemas.topics import WORKER_HEARTBEAT, Role

USER = "bench"
CONTROL = "main"

START = 120.0
STOP = 20.0

WORKERS_PER_PROCESS = 25
"""Each has a handful of threads."""


class Fleet:
    """A broker, a control, and simulated workers.

    Args:
        directory: for all their files.
        workers: how many.
        devices: of each.
        changes: a second, of all devices together.
    """

    def __init__(self, directory: Path, workers: int, devices: int, changes: float = 0.0) -> None:
        self.size = workers * devices
        self.workers = [f"w{number:03}" for number in range(workers)]
        self._directory = directory
        self._inputs = contextlib.ExitStack()
        self.broker = EmbeddedBroker(
            directory / "broker",
            [
                Principal(id=USER, role=Role.USER),
                Principal(id=CONTROL, role=Role.CONTROL),
                *(Principal(id=name, role=Role.WORKER) for name in self.workers),
            ],
        )
        self.broker.start(Deadline.after(START))
        self.url = self.broker.address(USER).url()
        self.control = self._start_control()
        self._simulated = [
            self._start_workers(
                self.workers[first : first + WORKERS_PER_PROCESS],
                devices,
                changes * min(WORKERS_PER_PROCESS, workers - first) / workers,
            )
            for first in range(0, workers, WORKERS_PER_PROCESS)
        ]

    def _start_control(self) -> Child:
        return Child(
            [
                *(sys.executable, "-m", "icebus.control.cli", "--id", CONTROL),
                *("--database", f"sqlite:///{self._directory / 'control.db'}"),
            ],
            self._directory / "control.log",
            {"ICEBUS_BROKER": self.broker.address(CONTROL).url()},
        )

    def _start_workers(
        self, names: list[str], devices: int, changes: float
    ) -> subprocess.Popen[str]:
        urls = "".join(self.broker.address(name).url() + "\n" for name in names)
        command = [sys.executable, "-m", "bench.simulated", str(devices)]
        if changes:
            command.append(str(changes))
        process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
        self._inputs.enter_context(cast("IO[str]", process.stdin)).write(urls)
        cast("IO[str]", process.stdin).flush()
        return process

    def wait_ready(self, client: PulseCountClient) -> float:
        """Wait until every device can be reserved; returns the seconds that it took."""
        begun = time.monotonic()
        deadline = Deadline.after(START)
        pause = threading.Event()
        while True:
            with contextlib.suppress(IcebusError):
                if len(client.available(KIND)) == self.size:
                    return time.monotonic() - begun
            if deadline.expired:
                raise TimeoutError(f"the fleet is not ready; see the logs in {self._directory}")
            pause.wait(0.05)

    def restart_broker(self) -> None:
        """Kill the broker, and start it again on the same port."""
        self.broker.child.process.kill()
        self.broker.child.process.wait(STOP)
        self.broker.start(Deadline.after(START))

    def restart_control(self) -> None:
        """Kill control, and start it again."""
        self.control.process.kill()
        self.control.process.wait(STOP)
        self.control = self._start_control()

    def stop(self) -> None:
        """Take it down."""
        self._inputs.close()
        for process in self._simulated:
            process.wait(STOP)
        self.control.stop(Deadline.after(STOP))
        self.broker.stop(Deadline.after(STOP))


class Echoes:
    """The workers' answers to each heartbeat."""

    def __init__(self, url: str) -> None:
        self._seen: Counter[tuple[str, int]] = Counter()
        self._lock = threading.Lock()
        self._bus = Bus(BrokerAddress.parse(url), "bench-echoes")
        self._bus.subscribe(WORKER_HEARTBEAT, self._on_echo)
        self._bus.connect(Deadline.after(START))

    def _on_echo(self, incoming: Incoming) -> None:
        if incoming.payload and not incoming.retained:
            echo = decode(WorkerHeartbeat, incoming.payload)
            with self._lock:
                self._seen[echo.epoch, echo.sequence] += 1

    def share(self, workers: int) -> float:
        """The share of heartbeats that were answered, first and last left out as incomplete."""
        self._bus.close(Deadline.after(STOP))
        complete = sorted(self._seen)[1:-1]
        return sum(self._seen[each] for each in complete) / (workers * len(complete))


def measure(fleet: Fleet, rounds: int, boards: int) -> Iterator[Measure]:
    """Everything, in the order in which it may be done."""
    with PulseCountClient(fleet.url) as client:
        shape = f"{fleet.size} devices on {len(fleet.workers)} workers"
        yield Measure(f"start, {shape}", fleet.wait_ready(client), "s")
        echoes = Echoes(fleet.url)
        idle_from, idle_cpu = time.monotonic(), cpu(fleet.control.process.pid)
        threading.Event().wait(5.0)
        idle = (cpu(fleet.control.process.pid) - idle_cpu) / (time.monotonic() - idle_from)
        yield Measure("control, idle, of a core", idle * 100, "%")
        taken, begun, used = [], time.monotonic(), cpu(fleet.control.process.pid)
        for _ in range(rounds):
            asked = time.monotonic()
            reservation = client.reserve(boards)
            taken.append(time.monotonic() - asked)
            reservation.release()
        busy = (cpu(fleet.control.process.pid) - used) / (time.monotonic() - begun)
        yield Measure(f"reserve {boards}, p50", median(taken) * 1e3, "ms")
        yield Measure(f"reserve {boards}, p99", quantile(taken, 0.99) * 1e3, "ms", 50.0)
        rate = rounds / (time.monotonic() - begun)
        yield Measure("reserved and released", rate, "/s")
        yield Measure("control, busy, of a core", busy * 100, "%", 50.0)
        answered = echoes.share(len(fleet.workers))
        yield Measure("heartbeats answered", answered * 100, "%", 99.0, least=True)
        fleet.restart_broker()
        yield Measure("ready after kill -9 of the broker", fleet.wait_ready(client), "s")
        fleet.restart_control()
        yield Measure("ready after kill -9 of control", fleet.wait_ready(client), "s")
        control, broker = fleet.control.process.pid, fleet.broker.child.process.pid
        yield Measure("control, memory", memory(control), "MiB")
        yield Measure("broker, memory", memory(broker), "MiB")


def memory(pid: int) -> float:
    """Resident MiB of a process at most so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["VmHWM"].split()[0]) / 1024


def main(
    workers: Annotated[int, typer.Option(min=1, max=300, help="Simulated workers.")] = 50,
    devices: Annotated[int, typer.Option(min=1, help="Devices of each.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Times to reserve and release.")] = 300,
    boards: Annotated[int, typer.Option(min=1, help="Devices to reserve each time.")] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Measure control and the broker with many devices, without a single board."""
    with tempfile.TemporaryDirectory(prefix="icebus-fleet-") as directory:
        fleet = Fleet(Path(directory), workers, devices)
        try:
            measured = list(measure(fleet, rounds, boards))
        finally:
            fleet.stop()
    show(measured, as_json=as_json)


if __name__ == "__main__":
    typer.run(main)
