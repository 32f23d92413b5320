"""The dashboard of a farm on this machine: a child that the others do without."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from icebus.broker.embedded import free_port
from icebus.broker.process import Child
from icebus.bus import BrokerAddress
from icebus.client.dashboard.built import check_built, check_packages
from icebus.client.dashboard.running import Running, RunningFile
from icebus.client.dashboard.settings import LOOPBACK, Settings
from icebus.client.local_farm.supervisor import Service, Supervisor
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import ProgramMissing

DASHBOARD = "dashboard"
"""What it is called among the parts of a farm."""

LOOK_AFTER = 0.05
"""Seconds between looks whether it serves yet."""


def obstacle() -> str | None:
    """Why no page can be served here, and what to do about it; None when one can."""
    try:
        check_packages()
        check_built()
    except ProgramMissing as missing:
        return missing.message
    return None


class FarmDashboard:
    """Serves the page for one farm, where it can be served.

    Args:
        address: of the farm's broker, as the user whom links sign in.
        profile: the same in a file.

    Attributes:
        obstacle: why there is none, and what to do about it; None when there is one.
    """

    def __init__(self, address: BrokerAddress, profile: Path) -> None:
        self._file = RunningFile(address)
        self._profile = profile
        self._port: int | None = None
        self._supervisor: Supervisor | None = None
        self.obstacle = obstacle()

    def start(self, supervisor: Supervisor, log: Path) -> None:
        """Start it, unless there is an obstacle."""
        if self.obstacle is not None:
            return
        self._file.forget()
        self._supervisor = supervisor
        supervisor.start(Service(DASHBOARD, lambda: Child(self._command(), log), log))

    def _command(self) -> list[str]:
        """How it is started: on the port it had, so that open pages find it again, if that is free.

        Another farm may have taken the port between our look and the start.
        """
        usual = Settings() if self._port is None else Settings(port=self._port)
        self._port = usual.on_free_port().port or free_port()
        argv = [sys.executable, "-m", "icebus.client.cli", "--farm", str(self._profile)]
        return [*argv, "dashboard", "--listen", f"{LOOPBACK}:{self._port}"]

    def wait_running(self, deadline: Deadline) -> Running | None:
        """How it is reached; None if it does not serve by the deadline, or there is none."""
        pause = threading.Event()
        while self.obstacle is None:
            running = self._file.read()
            if running is not None and running.answers:
                return running
            if deadline.expired:
                break
            if self._supervisor is not None:
                self._supervisor.tend()
            pause.wait(LOOK_AFTER)
        return None
