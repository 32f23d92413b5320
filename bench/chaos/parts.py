"""The processes of a farm, clients included, by name: what can be killed and started again."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.chaos import client
from bench.farm import Farm
from icebus.broker.access import Principal
from icebus.broker.process import Child
from icebus.schemas.deadline import Deadline
from icebus.schemas.topics import Role

BROKER = "broker"
DATABASE = "database"

BROKER_START = 30.0


class Parts:
    """Parts of a farm and its clients.

    Args:
        farm: whose parts.
        directory: of the clients' records and logs.
        clients: how many.

    Attributes:
        farm: whose parts.
        clients: names of the clients.
        servers: names of the broker, the controls and the workers.
        known_down: parts that do not run, and are meant not to for now.
    """

    def __init__(self, farm: Farm, directory: Path, clients: int) -> None:
        self.farm = farm
        self.clients = [f"client{number}" for number in range(clients)]
        self.servers = [BROKER, *farm.controls, *farm.workers]
        self.known_down: set[str] = set()
        self._directory = directory
        self._children: dict[str, Child] = {}
        self._urls = {name: farm.admit(Principal(id=name, role=Role.USER)) for name in self.clients}

    @property
    def targets(self) -> list[str]:
        """All that can fail."""
        database = [] if self.farm.database is None else [DATABASE]
        racks = [f"rack{number}" for number in range(self.farm.shape.workers)]
        return [*self.servers, *database, *self.clients, *racks]

    def process(self, name: str) -> subprocess.Popen[bytes]:
        """The process of a part."""
        if name == BROKER:
            return self.farm.broker.child.process
        if name == DATABASE and self.farm.database is not None:
            return self.farm.database.process
        if name in self._children:
            return self._children[name].process
        return self.farm.process(name)

    def pid(self, name: str) -> int:
        """The id of the process of a part."""
        return self.process(name).pid

    def log(self, name: str) -> Path:
        """The log of a part."""
        if name == BROKER:
            return self.farm.broker.directory / "mosquitto.log"
        if name == DATABASE and self.farm.database is not None:
            return self.farm.database.log
        if name in self.clients:
            return self._directory / f"{name}.log"
        return self.farm.log(name)

    def record(self, name: str) -> Path:
        """What a client has written down."""
        return self._directory / f"{name}.jsonl"

    def link(self, name: str) -> str:
        """The name of a part's link to the broker."""
        return name if name in self.clients else self.farm.principal(name)

    def start(self, name: str) -> None:
        """Start a part, again; a client only if it was not told to finish."""
        self.known_down.discard(name)
        if name == BROKER:
            self.farm.broker.start(Deadline.after(BROKER_START))
        elif name == DATABASE and self.farm.database is not None:
            self.farm.database.start()
        elif name not in self.clients:
            self.farm.start(name)
        elif not self._finishing:
            self._start_client(name)

    def _start_client(self, name: str) -> None:
        number = self.clients.index(name)
        boards = max(1, self.farm.shape.boards // len(self.clients))
        argv = [sys.executable, "-m", client.__name__]
        argv += [str(self._directory), name, str(number), str(boards)]
        environment = {"ICEBUS_URL": self._urls[name], "PYTHONUNBUFFERED": "1"}
        self._children[name] = Child(argv, self.log(name), environment)

    def ended(self) -> Iterator[tuple[str, str]]:
        """Parts that have ended by themselves, each once, and the last line of their logs."""
        for name in (*self.servers, *self._children):
            process = self.process(name)
            if name in self.known_down or process.poll() is None:
                continue
            if name in self.clients and self._finishing and process.returncode == 0:
                continue
            self.known_down.add(name)
            last = self.log(name).read_text(errors="replace").strip().splitlines()[-1:] or [""]
            yield name, f"exit code {process.returncode}: {last[0]}"

    def finish(self) -> None:
        """Tell clients to finish."""
        (self._directory / client.FINISH).touch()

    @property
    def _finishing(self) -> bool:
        return (self._directory / client.FINISH).exists()

    @property
    def running_clients(self) -> list[str]:
        """Clients that have not ended."""
        return [name for name, child in self._children.items() if child.running]

    def stop_clients(self) -> None:
        """End the clients, even frozen ones."""
        for child in self._children.values():
            if child.running:
                child.process.send_signal(signal.SIGCONT)
            child.stop(Deadline.after(5))
