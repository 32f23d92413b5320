"""Keeping child processes alive: one that ends is started again, after ever longer pauses."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from icebus.broker.log_files import keep_bounded
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError

FIRST_PAUSE = 0.2
"""Seconds until a child that died is started again: a killed worker is back within a second."""

LONGEST_PAUSE = 10.0

LOG_INTERVAL = 10.0
"""Seconds between looks at how long logs are."""

STEADY = 20.0
"""Seconds a child must run for its earlier deaths to be forgiven."""

STOP_TIMEOUT = 6.0


class Runs(Protocol):
    """A process that was started."""

    @property
    def running(self) -> bool:
        """Whether it has not ended."""

    def stop(self, deadline: Deadline) -> int:
        """End it; returns its exit code."""


@dataclass
class Service:
    """A program to be kept running.

    Attributes:
        name: for people.
        start: starts it.
        log: where its output goes.
        starts_anew: whether it has ended in order, to be started at once and without a word.
    """

    name: str
    start: Callable[[], Runs]
    log: Path
    child: Runs | None = None
    started: float = 0.0
    deaths: int = 0
    due: float = field(default=0.0)
    starts_anew: Callable[[], bool] = lambda: False


class Supervisor:
    """Starts services in order, restarts those that die, stops them in reverse order.

    All of it happens on one thread, the one that calls; it must live as long as the children.

    Args:
        report: called with a line for people about what died or does not start.

    Attributes:
        services: what is kept running.
        logs: those that are kept short besides the services' own.
    """

    def __init__(self, report: Callable[[str], object]) -> None:
        self._report = report
        self._unbounded: set[Path] = set()
        self.logs: list[Path] = []
        self.services: list[Service] = []

    def start(self, service: Service) -> None:
        """Start a service and keep it."""
        self.services.append(service)
        self._start(service)

    def tend(self) -> Deadline:
        """Restart what has died, and keep logs short; returns when to be called again at latest."""
        now = time.monotonic()
        self._bound_logs()
        for service in self.services:
            if service.child is not None and not service.child.running and service.starts_anew():
                service.child.stop(Deadline.after(1))
                service.child, service.due = None, now
            elif service.child is not None and not service.child.running:
                code = service.child.stop(Deadline.after(1))
                steady = now - service.started > STEADY
                service.deaths = 1 if steady else service.deaths + 1
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (service.deaths - 1))
                service.child, service.due = None, now + pause
                self._report(
                    f"icebus: {service.name} ended with code {code}; starting it again in "
                    f"{pause:g} s (log: {service.log})"
                )
            if service.child is None and service.due <= now:
                self._start(service)
        due = [service.due for service in self.services if service.child is None]
        return Deadline(min([*due, now + LOG_INTERVAL]))

    def _bound_logs(self) -> None:
        for log in (*self.logs, *(service.log for service in self.services)):
            try:
                keep_bounded(log)
            except (IcebusError, OSError) as error:
                if log not in self._unbounded:
                    self._unbounded.add(log)
                    self._report(f"icebus: {log} can't be kept short: {error}")

    def _start(self, service: Service) -> None:
        service.started = time.monotonic()
        try:
            service.child = service.start()
        except IcebusError as error:
            if not service.deaths and not service.starts_anew():
                raise
            service.deaths += 1
            service.due = service.started + LONGEST_PAUSE
            self._report(f"icebus: {service.name} does not start: {error}")

    def stop(self) -> None:
        """End all, the last started first, each with time to end in good order."""
        for service in reversed(self.services):
            if service.child is not None:
                service.child.stop(Deadline.after(STOP_TIMEOUT))
        self.services.clear()


def tail(log: Path, lines: int = 5) -> str:
    """The end of a log, for a message."""
    try:
        text = log.read_text(errors="replace").strip()
    except OSError:
        return ""
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:])
