"""A program as a service: minded by systemd, asked for its health by HTTP, each where wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from icebus.schemas.deadline import Deadline
from icebus.schemas.supervision.command import MARGIN, PATIENCE, within
from icebus.schemas.supervision.endpoint import HealthEndpoint, Place
from icebus.schemas.supervision.health import Verdict
from icebus.schemas.supervision.systemd import ServiceManager
from icebus.schemas.supervision.watchdog import Post, Watchdog

CLOSING = 1.0
"""Seconds for both to end."""


class Supervision:
    """What a program offers to whoever minds it. Make it before anything is started.

    Args:
        health: where its health is told by HTTP, as ``127.0.0.1:PORT``; None for nowhere.

    Raises:
        InvalidRequest: that is no place on loopback, or somebody listens there.
    """

    def __init__(self, health: str | None) -> None:
        self._look: Callable[[], Verdict] | None = None
        self._manager = ServiceManager()
        self._watchdog: Watchdog | None = None
        self._endpoint = HealthEndpoint(Place.parse(health), self._verdict) if health else None

    @property
    def health_port(self) -> int | None:
        """Where health is told; None for nowhere."""
        return None if self._endpoint is None else self._endpoint.port

    def tell_health(self, program: str, look: Callable[[float], Verdict]) -> None:
        """Answer by HTTP from now on.

        Args:
            program: as verdicts name it.
            look: gives the verdict within about so many seconds.
        """
        self._look = lambda: within(program, lambda: look(PATIENCE), PATIENCE + MARGIN)
        if self._endpoint is not None:
            self._endpoint.start()

    def waits(self, status: str) -> None:
        """Say what a program waits for that does not serve yet. Any thread."""
        self._manager.status(status)

    def ready(self, loops: Mapping[str, Post], status: Callable[[], str]) -> None:
        """Say that the program serves, and mind its loops from now on.

        Args:
            loops: by name, how each is asked to turn.
            status: what it does, in some words; must not wait for anything.
        """
        self._watchdog = Watchdog(self._manager, loops, status)
        self._watchdog.start()

    def stop(self) -> None:
        """Say that the program ends; to be called before it begins to."""
        if self._watchdog is not None:
            self._watchdog.stop(Deadline.after(CLOSING))
        else:
            self._manager.stopping()
        if self._endpoint is not None:
            self._endpoint.stop(Deadline.after(CLOSING))

    def _verdict(self) -> Verdict:
        assert self._look is not None  # noqa: S101 (nobody is answered before)
        return self._look()
