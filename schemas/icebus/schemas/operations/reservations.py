"""Reservations: the life cycle, the retained document, and the operations of control."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field, model_validator

from icebus.schemas.devices import DeviceReport
from icebus.schemas.ids import Id, Serial
from icebus.schemas.message import Args, Message, Natural, Timestamp
from icebus.schemas.operations.history import HistoryArgs, HistoryReply
from icebus.schemas.operations.limits import LimitsArgs, LimitsReply
from icebus.schemas.operations.offers import (
    AcceptArgs,
    DeclineArgs,
    Offer,
    Offered,
    OfferEnded,
    TransferArgs,
    Transferred,
)

DEFAULT_DURATION = 3600.0
"""Seconds a reservation lasts when the request does not say."""

MIN_DURATION = 1.0

SELECTOR_LENGTH = 1000


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
    NOT_IN_TIME = "not_in_time"
    ENDED_BY_ADMIN = "ended_by_admin"
    USER_REMOVED = "user_removed"
    HOURS_USED_UP = "hours_used_up"


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


class Queue(Message):
    """Where a reservation that waits for devices stands."""

    position: Natural = Field(description="1 is next.")
    reason: str = Field(description="What it waits for, for people.")
    estimate: Timestamp | None = Field(
        default=None,
        description="When the devices it waits for come free if nobody extends; null if unknown.",
    )


class Reservation(Message):
    """A reservation; retained on ``control/reservation/{id}`` until it has ended."""

    id: Id
    revision: int = Field(
        default=0, ge=0, description="Grows with every change: of two, the higher is newer."
    )
    user: Id
    kind: Id
    state: ReservationState
    devices: list[HeldDevice] = Field(description="None while it is queued.")
    created: Timestamp
    until: Timestamp = Field(description="Its end; while it is queued, the end of its patience.")
    client: Id | None = Field(
        default=None, description="The client it is attached to; null when detached."
    )
    reason: EndReason | None = Field(default=None, description="Why it ended.")
    priority: int = 0
    replace: bool = Field(default=False, description="Whether devices that fail are replaced.")
    queue: Queue | None = Field(default=None, description="While it is queued.")
    offer: Offer | None = Field(default=None, description="While it is offered to another user.")


# --- operations on control/call/{user}/{operation} ----------------------------------------------


class ReserveArgs(Args):
    """``reserve``: some devices of a kind, all or nothing; now, or as soon as they are free."""

    kind: Id
    count: int | None = Field(default=None, ge=1, le=10_000)
    serials: list[Serial] | None = Field(default=None, min_length=1, max_length=10_000)
    args: dict[str, Any] = Field(default_factory=dict, description="What the kind asks for.")
    duration: float = Field(default=DEFAULT_DURATION, ge=MIN_DURATION, description="Seconds.")
    client: Id | None = Field(
        default=None, description="Attach to this client's presence; null detaches."
    )
    selector: str | None = Field(
        default=None,
        max_length=SELECTOR_LENGTH,
        description="Labels that the devices must have, such as `chip=rp2350,rack!=b`.",
    )
    wait: float = Field(
        default=0.0, ge=0, description="Seconds to stand in the queue, at most; 0 never queues."
    )
    priority: int = Field(
        default=0, ge=-100, le=100, description="Higher goes first; waiting raises it."
    )
    replace: bool = Field(
        default=False, description="Replace a device that fails by another that is ready."
    )

    @model_validator(mode="after")
    def _one_way(self) -> ReserveArgs:
        _check_choice(self.count, self.serials, self.selector)
        return self


def _check_choice(count: int | None, serials: list[str] | None, selector: str | None) -> None:
    if (count is None) == (serials is None):
        raise ValueError("give either count or serials")
    if serials is not None and selector is not None:
        raise ValueError("a selector chooses among devices; with serials there is no choice")
    if serials is not None and len(set(serials)) != len(serials):
        raise ValueError("serials: each device once")


class GrowArgs(Args):
    """``grow``: more devices for a reservation that has some, all or nothing, now or not at all."""

    reservation: Id
    count: int | None = Field(default=None, ge=1, le=10_000)
    serials: list[Serial] | None = Field(default=None, min_length=1, max_length=10_000)
    selector: str | None = Field(
        default=None,
        max_length=SELECTOR_LENGTH,
        description="Labels that they must have; null for those that were asked for at first.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> GrowArgs:
        _check_choice(self.count, self.serials, self.selector)
        return self


class ExtendArgs(Args):
    """``extend``: move the end of a reservation by ``duration`` seconds, never nearer."""

    reservation: Id
    duration: float = Field(gt=0)


class EndArgs(Args):
    """``end``: release all devices of a reservation, or some; without the last one it ends."""

    reservation: Id
    serials: list[Serial] | None = Field(
        default=None, min_length=1, max_length=10_000, description="null means all."
    )


class RebootHeldArgs(Args):
    """``reboot``: restart devices of a reservation, which keeps them; what they measure fails."""

    reservation: Id
    serials: list[Serial] | None = Field(
        default=None, min_length=1, max_length=10_000, description="null means all."
    )


class AttachArgs(Args):
    """``attach``: make a reservation depend on that client instead, such as after a crash."""

    reservation: Id
    client: Id | None = Field(default=None, description="null detaches.")


class WithdrawArgs(Args):
    """``withdraw``: undo a ``reserve`` that was not answered, whether or not it was carried out.

    If it comes only later, it is refused.
    """

    request: Id = Field(description="The id of that request.")


class ListArgs(Args):
    """``list``: reservations that have not ended."""

    user: Id | None = Field(default=None, description="Of this user only; null means of all.")


class DevicesArgs(Args):
    """``devices``: all devices control knows."""


class AvailableArgs(Args):
    """``available``: how many devices a reservation of that kind could have now."""

    kind: Id
    selector: str | None = Field(
        default=None, max_length=SELECTOR_LENGTH, description="Labels that they must have."
    )


class ReservationReply(Message):
    """Answer to operations on one reservation: how it stands now."""

    reservation: Reservation


class ExtendReply(Message):
    """Answer to ``extend``: the end before and after."""

    reservation: Reservation
    before: Timestamp
    after: Timestamp


class WithdrawReply(Message):
    """Answer to ``withdraw``."""

    reservation: Reservation | None = Field(
        description="What the request had led to, ended now; null if there is nothing to end."
    )


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
    labels: dict[str, str] = Field(
        default_factory=dict, description="All that selectors can ask for, also chip and worker."
    )
    quarantined: str | None = Field(
        default=None, description="Why an administrator has it given to nobody; null otherwise."
    )
    draining: str | None = Field(
        default=None, description="Why its worker gets no new reservations; null when it does."
    )
    claimed_by: list[Id] = Field(
        default_factory=list, description="Other workers that say they have it: an alarm."
    )


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


class DeviceReplaced(Message):
    """``device_replaced``: a failed device of the reservation gave way to another."""

    reservation: Id
    serial: Serial
    by: Serial


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
    "device_replaced": DeviceReplaced,
    "offered": Offered,
    "offer_ended": OfferEnded,
    "transferred": Transferred,
}
"""What control sends to a reservation, by the last level of the topic."""

OPERATIONS: dict[str, tuple[type[Args], type[Message]]] = {
    "reserve": (ReserveArgs, ReservationReply),
    "withdraw": (WithdrawArgs, WithdrawReply),
    "grow": (GrowArgs, ReservationReply),
    "extend": (ExtendArgs, ExtendReply),
    "end": (EndArgs, ReservationReply),
    "reboot": (RebootHeldArgs, ReservationReply),
    "transfer": (TransferArgs, ReservationReply),
    "accept": (AcceptArgs, ReservationReply),
    "decline": (DeclineArgs, ReservationReply),
    "attach": (AttachArgs, ReservationReply),
    "list": (ListArgs, ReservationsReply),
    "devices": (DevicesArgs, DevicesReply),
    "available": (AvailableArgs, AvailableReply),
    "history": (HistoryArgs, HistoryReply),
    "limits": (LimitsArgs, LimitsReply),
}
"""What control can be asked: the arguments and what ``ok`` of the answer holds."""
