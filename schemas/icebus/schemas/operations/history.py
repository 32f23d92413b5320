"""The history: what happened to reservations and devices, appended to and never changed."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from icebus.schemas.ids import Id, Serial
from icebus.schemas.message import Args, Message, Natural, Timestamp


class HistoryEvent(StrEnum):
    """What can happen."""

    QUEUED = "queued"
    RESERVED = "reserved"
    EXTENDED = "extended"
    ATTACHED = "attached"
    OFFERED = "offered"
    OFFER_ENDED = "offer_ended"
    TRANSFERRED = "transferred"
    RELEASED = "released"
    ENDED = "ended"
    DEVICE_FAILED = "device_failed"
    DEVICE_REPLACED = "device_replaced"
    DEVICE_MOVED = "device_moved"
    DEVICE_CLAIMED = "device_claimed"
    REBOOTED = "rebooted"
    REFLASHED = "reflashed"
    QUARANTINED = "quarantined"
    UNQUARANTINED = "unquarantined"
    FORGOTTEN = "forgotten"
    DRAINED = "drained"
    UNDRAINED = "undrained"
    RETIRED = "retired"


class HistoryEntry(Message):
    """One thing that happened.

    ``reserved`` and ``released`` stand once for each device, so that who held a device when is a
    matter of reading its entries.
    """

    number: Natural = Field(description="Counts up; not without gaps.")
    at: Timestamp
    event: HistoryEvent
    actor: Id = Field(description="Who did it: a user, or `control` by itself.")
    reservation: Id | None = None
    user: Id | None = Field(default=None, description="Whose reservation.")
    serial: Serial | None = None
    worker: Id | None = None
    reason: str = ""


class HistoryArgs(Args):
    """``history``: the newest entries that match all that is given, newest first."""

    user: Id | None = None
    reservation: Id | None = None
    serial: Serial | None = None
    worker: Id | None = None
    events: list[HistoryEvent] | None = None
    since: Timestamp | None = None
    before: Natural | None = Field(default=None, description="Entries of lower numbers only.")
    limit: int = Field(default=100, ge=1, le=1000)


class HistoryReply(Message):
    """Answer to ``history``."""

    entries: list[HistoryEntry]
