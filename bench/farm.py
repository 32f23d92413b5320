"""A farm to be measured: every part a process of its own, as in a lab, and what each consumes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import postgresql
from bench.network import Network
from bench.processes import children, cpu
from icebus.broker.access import Principal
from icebus.broker.embedded import EmbeddedBroker
from icebus.broker.process import Child
from icebus.client import PulseCountClient
from icebus.rack.layout import ChipChoice, layout, seeded
from icebus.schemas.boards.rack import RackFile, write_rack_file
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError
from icebus.schemas.kinds.pulsecount import FIRMWARE, KIND
from icebus.schemas.topics import Role

USER = "bench"
CONTROL = "main"

START_DEADLINE = 120.0
STOP_DEADLINE = 10.0


@dataclass(frozen=True)
class Shape:
    """What a farm is made of.

    Attributes:
        boards: virtual boards in all, shared evenly by the workers.
        window: seconds that they count pulses for.
        bandwidth: bytes per second of their USB; 0 for no limit, and for FPGAs that are configured
            in no time.
        workers: how many, each with a rack of its own.
        controls: how many. One has a file, several share a PostgreSQL.
        postgresql: whether one has a PostgreSQL, too.
        firmware: what the boards run, in turn.
        speedup: how many times faster than on a board windows pass.
    """

    boards: int
    window: float
    bandwidth: float = 0.0
    workers: int = 1
    controls: int = 1
    postgresql: bool = False
    firmware: tuple[str, ...] = (FIRMWARE,)
    speedup: float = 1.0

    @property
    def measurement(self) -> dict[str, Any]:
        """What a client has to ask for: text firmware can't be told its window."""
        return {"window": self.window} if self.firmware == (FIRMWARE,) else {}


class Farm:
    """A running farm.

    Args:
        shape: what it is made of.
        directory: to keep everything in.
        control: options of `icebus-control`.
        faulty: whether its parts reach the broker through a network that can fail.

    Attributes:
        shape: what it is made of.
        broker: that all of it speaks through.
        network: to let fail, by principal; None unless ``faulty``.
        database: that several controls share; None for a file.
        database_url: of it, as control has it.
        url: where the broker is, for the user.
    """

    def __init__(
        self,
        shape: Shape,
        directory: Path,
        control: Sequence[str] = (),
        *,
        faulty: bool = False,
    ) -> None:
        self.shape = shape
        self._directory = directory
        self._commands: dict[str, tuple[list[str], dict[str, str]]] = {}
        self._children: dict[str, Child] = {}
        self._principals: dict[str, str] = {}
        names = [f"worker{number}" for number in range(shape.workers)]
        mains = [f"{CONTROL}{number or ''}" for number in range(shape.controls)]
        principals = [
            Principal(id=USER, role=Role.USER),
            *(Principal(id=name, role=Role.CONTROL) for name in mains),
            *(Principal(id=name, role=Role.WORKER) for name in names),
        ]
        self.database = postgresql.find() if shape.controls > 1 or shape.postgresql else None
        self.broker = EmbeddedBroker(directory / "broker", principals)
        self.broker.start(Deadline.after(START_DEADLINE))
        self.network = Network(self.broker.port) if faulty else None
        self.url = self.address(USER)
        self.database_url = url = self._start_database()
        for number, name in enumerate(mains):
            part = f"control{number or ''}"
            self._start(part, name, "control", "--database", url, "--id", name, *control)
        for number, name in enumerate(names):
            self._start_worker(name, number)

    def _start_database(self) -> str:
        if self.database is None:
            return f"sqlite:///{self._directory / 'control.db'}"
        self.database.start()
        return self.database.url(self.database.create(name="farm"))

    def _start_worker(self, name: str, number: int) -> None:
        shape = self.shape
        rack = self.rack(number)
        mine = shape.boards // shape.workers + (number < shape.boards % shape.workers)
        processes = max(1, (os.cpu_count() or 1) // shape.workers)
        rack.mkdir(parents=True, exist_ok=True)
        write_rack_file(rack, boards_with(mine, shape.firmware, number))
        self._start(
            f"rack{number}", None, "rack", "run", "-vv", "--directory", str(rack),
            "--window", str(shape.window), "--speedup", str(shape.speedup),
            "--bandwidth", str(shape.bandwidth),
            *([] if shape.bandwidth else ["--load", "0", "--unpack", "0"]),
            "--seed", str(number), "--processes", str(processes),
        )  # fmt: skip
        directory = self._directory / name
        self._start(name, name, "worker", "--rack", str(rack), "--directory", str(directory))

    def _start(self, name: str, principal: str | None, program: str, *arguments: str) -> None:
        environment = {"PYTHONUNBUFFERED": "1"}
        if principal is not None:
            environment["ICEBUS_BROKER"] = self.address(principal)
            self._principals[name] = principal
        self._commands[name] = (
            [sys.executable, "-m", f"icebus.{program}.cli", *arguments],
            environment,
        )
        self.start(name)

    def start(self, name: str) -> None:
        """Start a part, again: with what it was first started with."""
        argv, environment = self._commands[name]
        self._children[name] = Child(argv, self.log(name), environment)

    def log(self, name: str) -> Path:
        """The log of a part of the farm."""
        return self._directory / f"{name}.log"

    def address(self, principal: str) -> str:
        """The broker's URL for a principal."""
        address = self.broker.address(principal)
        if self.network is not None:
            address = replace(address, port=self.network.link(principal))
        return address.url()

    def admit(self, principal: Principal) -> str:
        """Let somebody else in; returns the broker's URL for them."""
        self.broker.add_principals([principal])
        return self.address(principal.id)

    @property
    def workers(self) -> list[str]:
        """The ids of the workers."""
        return [name for name in self._children if name.startswith("worker")]

    @property
    def controls(self) -> list[str]:
        """The controls, as parts."""
        return [name for name in self._children if name.startswith("control")]

    def principal(self, name: str) -> str:
        """As whom a part speaks, and so the name of its link to the broker."""
        return self._principals[name]

    def wait_ready(self, client: PulseCountClient) -> None:
        """Wait until every board can be reserved."""
        deadline = Deadline.after(START_DEADLINE)
        pause = threading.Event()
        while True:
            with contextlib.suppress(IcebusError):
                if len(client.available(KIND)) >= self.shape.boards:
                    return
            if deadline.expired:
                raise TimeoutError(f"the farm is not ready; see the logs in {self._directory}")
            pause.wait(0.05)

    def usage(self) -> dict[str, float]:
        """CPU seconds that each part has used so far; racks with their simulation processes."""
        used = {"broker": cpu(self.broker.child.process.pid)}
        for name, child in self._children.items():
            used[name] = cpu(child.process.pid)
            if name.startswith("rack"):
                used[f"{name} simulation"] = sum(map(cpu, children(child.process.pid)))
        return used

    def memory(self, name: str) -> tuple[float, int]:
        """Resident MiB at most so far, and threads, of a part."""
        status = Path(f"/proc/{self._children[name].process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return int(fields["VmHWM"].split()[0]) / 1024, int(fields["Threads"])

    def broker_memory(self) -> float:
        """Resident MiB of the broker, at most so far."""
        status = Path(f"/proc/{self.broker.child.process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return int(fields["VmHWM"].split()[0]) / 1024

    def pids(self) -> list[int]:
        """The processes of the broker and all parts."""
        children = (self.broker.child, *self._children.values())
        return [child.process.pid for child in children]

    def process(self, name: str) -> subprocess.Popen[bytes]:
        """The process of a part."""
        return self._children[name].process

    def rack(self, number: int) -> Path:
        """The directory of a rack."""
        return self._directory / f"rack{number}"

    def kill(self, name: str) -> None:
        """End a part without warning."""
        self.process(name).kill()

    def stop(self) -> None:
        """Take the farm down."""
        for child in reversed(self._children.values()):
            child.stop(Deadline.after(STOP_DEADLINE))
        self.broker.stop(Deadline.after(STOP_DEADLINE))
        if self.database is not None:
            self.database.remove()
        if self.network is not None:
            self.network.close()


def boards_with(count: int, firmware: Sequence[str], seed: int) -> RackFile:
    """The boards of a rack, with each firmware in turn."""
    boards = layout(count, ChipChoice.RP2040, firmware[0], seeded(seed)).boards
    return RackFile(
        boards=tuple(
            board.model_copy(update={"firmware": firmware[number % len(firmware)]})
            for number, board in enumerate(boards)
        )
    )


@contextlib.contextmanager
def running(shape: Shape, directory: Path, say: Callable[[str], None]) -> Iterator[Farm]:
    """A farm that is up for as long as the block lasts."""
    directory.mkdir()
    say(f"starting {shape.boards} boards, {shape.window * 1000:g} ms windows")
    farm = Farm(shape, directory)
    try:
        yield farm
    finally:
        farm.stop()
