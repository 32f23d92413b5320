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
        self.obstacle: str | None = None
        try:
            check_packages()
            check_built()
        except ProgramMissing as missing:
            self.obstacle = missing.message

    def start(self, supervisor: Supervisor, log: Path) -> None:
        """Start it, unless there is an obstacle."""
        if self.obstacle is not None:
            return
        self._file.forget()
        # Chosen once: pages that are open find it again after it was restarted.
        port = Settings().on_free_port().port or free_port()
        argv = [sys.executable, "-m", "icebus.client.cli", "--farm", str(self._profile)]
        argv += ["dashboard", "--listen", f"{LOOPBACK}:{port}"]
        supervisor.start(Service(DASHBOARD, lambda: Child(argv, log), log))

    def wait_running(self, deadline: Deadline) -> Running | None:
        """How it is reached; None if it does not serve by the deadline, or there is none."""
        pause = threading.Event()
        while self.obstacle is None:
            running = self._file.read()
            if running is not None and running.answers:
                return running
            if deadline.expired:
                break
            pause.wait(LOOK_AFTER)
        return None
