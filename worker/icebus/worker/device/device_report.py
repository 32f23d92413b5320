"""What a device tells others of itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.message import Message
from icebus.worker.device.facts import Facts
from icebus.worker.states._framework import Hold, Reservable, State


class Outlet(Protocol):
    """Where a device's words go; both may be called from its loop and must not block."""

    def report(self, report: DeviceReport) -> None:
        """The device's state has changed."""

    def emit(self, hold: Hold, serial: str, event: str, sequence: int, data: Message) -> None:
        """The device's state has an event for its holder."""


@dataclass(frozen=True)
class Status:
    """A snapshot of a device for other threads."""

    state: DeviceState | None = None
    hold: Hold | None = None
    kind: str | None = None
    load: int = 0

    @classmethod
    def of(cls, state: State | None) -> Status:
        """The snapshot of a device in ``state``."""
        if isinstance(state, Reservable):
            return cls(state.reported, state.hold, state.kind, state.load)
        return cls(state.reported if state is not None else None)


class Reporter:
    """Tells of one device. Used on its loop, but for ``status``.

    Args:
        outlet: where its words go.
        session: of the worker.
        labels: gives those of what is plugged into a port.

    Attributes:
        status: what other threads may see.
    """

    def __init__(
        self, outlet: Outlet, session: str, labels: Callable[[str], Mapping[str, str]]
    ) -> None:
        self.status = Status()
        self._outlet = outlet
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
        self.status = Status.of(state)

    def emit(self, name: str, state: State | None, hold: Hold, event: str, data: Message) -> None:
        """Send an event to the device's holder."""
        self._outlet.emit(hold, name, event, next(self._sequence), data)
        self.refresh(state)

    def report(self, serial: str | None, state: State | None, facts: Facts) -> None:
        """Tell how the device stands; one without a serial is nobody's business yet."""
        self.refresh(state)
        if serial is None or state is None or self._since is None:
            return
        desired, board = facts.desired, facts.board
        place = board.path if board is not None else ""
        self._outlet.report(
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
                chip="" if board is None else board.chip.value,
                firmware=facts.firmware,
                port=place,
                virtual=board is not None and board.virtual,
                progress=self._progress,
                labels=dict(self._labels(place)),
                retry=state.retry_at,
            )
        )
