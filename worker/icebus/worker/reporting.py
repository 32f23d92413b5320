"""What a device tells others of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from icebus.schemas.devices import Desired, DeviceReport, DeviceState
from icebus.schemas.message import Message
from icebus.worker.hardware.board import Board
from icebus.worker.states.framework import Hold, Reservable, State


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


def report_of(
    serial: str,
    state: State,
    desired: Desired | None,
    board: Board | None,
    *,
    firmware: str,
    session: str,
    since: datetime,
    progress: float | None,
    labels: Mapping[str, str],
) -> DeviceReport:
    """The device as it stands, for the bus."""
    return DeviceReport(
        serial=serial,
        state=state.reported,
        since=since,
        reason=state.reason,
        session=session,
        generation=0 if desired is None else desired.generation,
        reservation=None if desired is None else desired.reservation,
        user=None if desired is None else desired.user,
        kind=None if desired is None else desired.kind,
        chip="" if board is None else board.chip.value,
        firmware=firmware,
        port="" if board is None else board.path,
        virtual=board is not None and board.virtual,
        progress=progress,
        labels=dict(labels),
        retry=state.retry_at,
    )
