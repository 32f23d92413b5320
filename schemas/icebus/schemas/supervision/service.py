"""A program as a service: minded by systemd, asked by HTTP how it is, each where wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from icebus.schemas.deadline import Deadline
from icebus.schemas.supervision.command import MARGIN, PATIENCE, within
from icebus.schemas.supervision.endpoint import Endpoint, MakePage, Place
from icebus.schemas.supervision.health import Verdict
from icebus.schemas.supervision.pages import health_page, metrics_page
from icebus.schemas.supervision.systemd import ServiceManager
from icebus.schemas.supervision.watchdog import Post, Watchdog

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

CLOSING = 1.0
"""Seconds for each part to end."""


class Supervision:
    """What a program offers to whoever minds it. Make it before anything is started.

    Args:
        health: where its health is told by HTTP, as ``127.0.0.1:PORT``; None for nowhere.
        metrics: where its metrics are, which may be the same place.
        registry: of these.

    Raises:
        InvalidRequest: one is no place on loopback, or somebody listens there.
    """

    def __init__(
        self,
        health: str | None,
        metrics: str | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._look: Callable[[], Verdict] | None = None
        self._manager = ServiceManager()
        self._watchdog: Watchdog | None = None
        pages: dict[Place, dict[str, MakePage]] = {}
        if health:
            page = health_page(self._verdict)
            pages.setdefault(Place.parse(health), {}).update({"/": page, "/health": page})
        if metrics and registry is not None:
            page = metrics_page(registry)
            pages.setdefault(Place.parse(metrics, "metrics"), {})["/metrics"] = page
        self._endpoints: list[Endpoint] = []
        try:
            for place, told in pages.items():
                self._endpoints.append(Endpoint(place, told))
        except BaseException:
            self._close()
            raise

    @property
    def ports(self) -> list[int]:
        """Where it is asked by HTTP."""
        return [each.port for each in self._endpoints]

    def tell_health(self, program: str, look: Callable[[float], Verdict]) -> None:
        """Answer by HTTP from now on.

        Args:
            program: as verdicts name it.
            look: gives the verdict within about so many seconds.
        """
        self._look = lambda: within(program, lambda: look(PATIENCE), PATIENCE + MARGIN)
        for endpoint in self._endpoints:
            endpoint.start()

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
        self._close()

    def _close(self) -> None:
        for endpoint in self._endpoints:
            endpoint.stop(Deadline.after(CLOSING))

    def _verdict(self) -> Verdict:
        assert self._look is not None  # noqa: S101 (nobody is answered before)
        return self._look()
