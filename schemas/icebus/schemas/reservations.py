"""Reservations: the life cycle, the retained document, and the operations of control."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field, model_validator

from icebus.schemas.devices import DeviceReport
from icebus.schemas.ids import Id, Serial
from icebus.schemas.message import Args, Message, Timestamp

DEFAULT_DURATION = 3600.0
"""Seconds a reservation lasts when the request does not say."""

MIN_DURATION = 1.0


class ReservationState(StrEnum):
    """Where a reservation stands."""

    QUEUED = "queued"
    PREPARING = "preparing"
    ACTIVE = "active"
    ENDING = "ending"
    ENDED = "ended"


class EndReason(StrEnum):
    """Why a reservation is over."""

    RELEASED = "released"
    EXPIRED = "expired"
    CLIENT_LOST = "client_lost"
    DEVICES_FAILED = "devices_failed"


class HoldState(StrEnum):
    """Where one device of a reservation stands."""

    PREPARING = "preparing"
    SERVING = "serving"
    FAILED = "failed"
    RELEASED = "released"


class HeldDevice(Message):
    """One device of a reservation."""

    serial: Serial
    worker: Id
    state: HoldState
    reason: str = ""


class Reservation(Message):
    """A reservation; retained on ``control/reservation/{id}`` until it has ended."""

    id: Id
    user: Id
    kind: Id
    state: ReservationState
    devices: list[HeldDevice]
    created: Timestamp
    until: Timestamp
    client: Id | None = Field(
        default=None, description="The client it is attached to; null when detached."
    )
    reason: EndReason | None = Field(default=None, description="Why it ended.")


# --- operations on control/call/{user}/{operation} ----------------------------------------------


class ReserveArgs(Args):
    """``reserve``: some devices of a kind, all or nothing."""

    kind: Id
    count: int | None = Field(default=None, ge=1, le=10_000)
    serials: list[Serial] | None = Field(default=None, min_length=1, max_length=10_000)
    args: dict[str, Any] = Field(default_factory=dict, description="What the kind asks for.")
    duration: float = Field(default=DEFAULT_DURATION, ge=MIN_DURATION, description="Seconds.")
    client: Id | None = Field(
        default=None, description="Attach to this client's presence; null detaches."
    )

    @model_validator(mode="after")
    def _one_way(self) -> ReserveArgs:
        if (self.count is None) == (self.serials is None):
            raise ValueError("give either count or serials")
        if self.serials is not None and len(set(self.serials)) != len(self.serials):
            raise ValueError("serials: each device once")
        return self


class ExtendArgs(Args):
    """``extend``: move the end of a reservation by ``duration`` seconds, never nearer."""

    reservation: Id
    duration: float = Field(gt=0)


class EndArgs(Args):
    """``end``: release all devices of a reservation."""

    reservation: Id


class ListArgs(Args):
    """``list``: reservations that have not ended."""

    user: Id | None = Field(default=None, description="Of this user only; null means of all.")


class DevicesArgs(Args):
    """``devices``: all devices control knows."""


class AvailableArgs(Args):
    """``available``: how many devices a reservation of that kind could have now."""

    kind: Id


class ReservationReply(Message):
    """Answer to ``reserve`` and ``end``."""

    reservation: Reservation


class ExtendReply(Message):
    """Answer to ``extend``: the end before and after."""

    reservation: Reservation
    before: Timestamp
    after: Timestamp


class ReservationsReply(Message):
    """Answer to ``list``."""

    reservations: list[Reservation]


class KnownDevice(Message):
    """A device in control's database."""

    worker: Id
    report: DeviceReport
    fresh: bool = Field(description="Whether its worker answers heartbeats.")
    reservation: Id | None = None
    user: Id | None = None


class DevicesReply(Message):
    """Answer to ``devices``."""

    devices: list[KnownDevice]


class AvailableReply(Message):
    """Answer to ``available``."""

    kind: Id
    available: int
    serials: list[Serial]


# --- events to the reservation, from control ----------------------------------------------------


class Initialized(Message):
    """``initialized``: a device of the reservation is ready for calls."""

    reservation: Id
    serial: Serial


class EndingSoon(Message):
    """``reservation_ending_soon``: extend it now or lose it."""

    reservation: Id
    until: Timestamp


class Ended(Message):
    """``reservation_ended``: its devices are not its any more; the reason says why."""

    reservation: Id
    reason: EndReason


class DeviceFailedEvent(Message):
    """``device_failed``: a device of the reservation stopped serving."""

    reservation: Id
    serial: Serial
    code: str = Field(description="Code of the error that its evaluations end with.")
    reason: str


EVENTS: dict[str, type[Message]] = {
    "initialized": Initialized,
    "reservation_ending_soon": EndingSoon,
    "reservation_ended": Ended,
    "device_failed": DeviceFailedEvent,
}
"""What control sends to a reservation, by the last level of the topic."""

OPERATIONS: dict[str, tuple[type[Args], type[Message]]] = {
    "reserve": (ReserveArgs, ReservationReply),
    "extend": (ExtendArgs, ExtendReply),
    "end": (EndArgs, ReservationReply),
    "list": (ListArgs, ReservationsReply),
    "devices": (DevicesArgs, DevicesReply),
    "available": (AvailableArgs, AvailableReply),
}
"""What control can be asked: the arguments and what ``ok`` of the answer holds."""
