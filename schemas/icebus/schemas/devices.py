"""Messages about devices: what a worker reports and what control desires."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from icebus.schemas.ids import Id, Serial
from icebus.schemas.message import Message, Natural, Timestamp


class DeviceState(StrEnum):
    """What a device does, as its worker reports it."""

    ABSENT = "absent"
    FLASHING = "flashing"
    TESTING = "testing"
    READY = "ready"
    PREPARING = "preparing"
    SERVING = "serving"
    RELEASING = "releasing"
    BROKEN = "broken"
    QUARANTINED = "quarantined"


class DeviceReport(Message):
    """A device as its worker sees it; retained on ``worker/{worker}/device/{serial}``."""

    serial: Serial
    state: DeviceState
    since: Timestamp = Field(description="When this state began.")
    reason: str = Field(default="", description="Why, where the state alone does not say.")
    session: Id = Field(description="The worker's session that reports this.")
    generation: Natural = Field(default=0, description="Of the desired state last acted on.")
    reservation: Id | None = None
    user: Id | None = None
    kind: Id | None = None
    chip: str = Field(default="", description="rp2040 or rp2350; empty while unknown.")
    firmware: str = Field(default="", description="Name of what it runs; empty while unknown.")
    firmware_version: str = Field(default="", description="Of that; empty where it does not say.")
    port: str = Field(default="", description="USB port path such as 1-1.2.")
    virtual: bool = False
    progress: float | None = Field(default=None, ge=0, le=1, description="Of a long step.")
    labels: dict[str, str] = Field(
        default_factory=dict, description="What its worker was told of it, for selectors."
    )
    retry: Timestamp | None = Field(
        default=None, description="When a broken device is looked at again; null for never."
    )


class DeviceEventName(StrEnum):
    """What happened to a device."""

    ADDED = "added"
    REMOVED = "removed"
    STATE = "state"


class DeviceEvent(Message):
    """Something that happened to a device; on ``worker/{worker}/event``."""

    event: DeviceEventName
    serial: Serial
    at: Timestamp
    state: DeviceState
    reason: str = ""


class Desired(Message):
    """What control wants of a device; retained on ``worker/{worker}/desired/{serial}``.

    The worker reconciles until what it reports agrees. It ignores a lower ``generation``.
    """

    serial: Serial
    generation: Natural
    reservation: Id | None = None
    user: Id | None = None
    kind: Id | None = None
    args: dict[str, Any] = Field(default_factory=dict)
    until: Timestamp | None = None
    quarantined: str | None = Field(default=None, description="The reason, or null.")
    reboot: Natural = Field(default=0, description="Nonce: a higher one asks for a reboot.")
    reflash: Natural = Field(default=0, description="Nonce: a higher one asks for a reflash.")
    asked_by: Id | None = Field(
        default=None, description="Who raised a nonce last: an administrator, or the holder."
    )


class WorkerDesired(Message):
    """What control wants of a worker; retained on ``worker/{worker}/desired``."""

    draining: str | None = Field(
        default=None, description="Why it gets no new reservations; null when it does."
    )


class DeviceClaim(Message):
    """Retained on ``control/claim/{serial}``: several workers say that they have a device.

    Its owner keeps it meanwhile, with its reservation; nothing that the others say of it counts.
    """

    serial: Serial
    worker: Id = Field(description="Whose device it is.")
    claimed_by: list[Id] = Field(description="The other workers that say they have it.")
    since: Timestamp = Field(description="When this was found, or changed last.")
    remedy: str = Field(default="", description="What to do, for people.")
