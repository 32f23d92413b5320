"""What a device reports of itself: its state, its events, a snapshot for other threads."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.worker.device.next_state import DeviceFacts
from icebus.worker.states import Hold, Reservable, State


class Publisher(Protocol):
    """Publishes what a device reports; called on the device's loop, so it must not block."""

    def report(self, report: DeviceReport) -> None:
        """The device's state has changed."""

    def emit(self, hold: Hold, serial: str, event: str, sequence: int, data: str) -> None:
        """The device's state has an event for its holder: ``data`` is JSON."""


@dataclass(frozen=True)
class DeviceStatus:
    """A snapshot of a device for other threads."""

    state: DeviceState | None = None
    hold: Hold | None = None
    kind: str | None = None
    load: int = 0
    reason: str = ""

    @classmethod
    def of(cls, state: State | None) -> DeviceStatus:
        """The snapshot of a device in ``state``."""
        if isinstance(state, Reservable):
            return cls(state.reported, state.hold, state.kind, state.load)
        return cls() if state is None else cls(state.reported, reason=state.reason)


class Reporter:
    """Reports one device. Used on its loop, but for ``status``.

    Args:
        publisher: publishes it.
        session: of the worker.
        labels: gives those of what is plugged into a port.

    Attributes:
        status: what other threads may see.
    """

    def __init__(
        self, publisher: Publisher, session: str, labels: Callable[[str], Mapping[str, str]]
    ) -> None:
        self.status = DeviceStatus()
        self._publisher = publisher
        self._session = session
        self._labels = labels
        self._sequence = itertools.count(1)
        self._since: datetime | None = None
        self._progress: float | None = None

    def begin(self, since: datetime) -> None:
        """Another state has begun: its events are counted anew."""
        self._sequence = itertools.count(1)
        self._since = since
        self._progress = None

    def progress(self, fraction: float) -> None:
        """How far a long step is, for the next report."""
        self._progress = fraction

    def refresh(self, state: State | None) -> None:
        """Have other threads see ``state`` as it is now."""
        self.status = DeviceStatus.of(state)

    def emit(self, name: str, state: State | None, hold: Hold, event: str, data: str) -> None:
        """Send an event to the device's holder: ``data`` is JSON."""
        self._publisher.emit(hold, name, event, next(self._sequence), data)
        self.refresh(state)

    def report(self, serial: str | None, state: State | None, facts: DeviceFacts) -> None:
        """Report the device's state; a device without a serial has no topic yet."""
        self.refresh(state)
        if serial is None or state is None or self._since is None:
            return
        desired, board = facts.desired, facts.board
        port = board.path if board is not None else ""
        self._publisher.report(
            DeviceReport(
                serial=serial,
                state=state.reported,
                since=self._since,
                reason=state.reason,
                session=self._session,
                generation=0 if desired is None else desired.generation,
                reservation=None if desired is None else desired.reservation,
                user=None if desired is None else desired.user,
                kind=None if desired is None else desired.kind,
                chip="" if board is None or board.chip is None else board.chip.value,
                firmware=facts.firmware,
                firmware_version=facts.firmware_version,
                port=port,
                virtual=board is not None and board.virtual,
                progress=self._progress,
                labels={**self._labels(port), **(board.labels if board is not None else {})},
                retry=state.retry_at,
            )
        )
