"""A worker as it stands at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from icebus.schemas.components import WorkerPhase
from icebus.schemas.devices import DeviceState
from icebus.worker.device.device_report import DeviceStatus

OF_USE = (
    *(DeviceState.READY, DeviceState.PREPARING, DeviceState.SERVING),
    *(DeviceState.RELEASING, DeviceState.TESTING, DeviceState.FLASHING),
)
"""States of a board that is there, and of which nothing bad is known."""


@dataclass(frozen=True)
class WorkerFacts:
    """A worker as it stands.

    Attributes:
        name: of the worker.
        phase: what it does.
        connected: whether it has its broker.
        heartbeat_age: seconds since control's last heartbeat; None when it has heard none.
        boards: by serial.
        broker_ends: when the broker's certificate ends, as seconds since 1970; None without TLS.
        own_ends: when the worker's does.
    """

    name: str
    phase: WorkerPhase
    connected: bool
    heartbeat_age: float | None
    boards: Mapping[str, DeviceStatus]
    broker_ends: float | None = None
    own_ends: float | None = None
