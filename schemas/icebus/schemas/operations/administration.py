"""What administrators may request of control on ``admin/{user}/{operation}``; all is audited."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from icebus.schemas.ids import Id, Serial
from icebus.schemas.message import Args, Message
from icebus.schemas.operations.reservations import ReservationReply

Serials = Annotated[list[Serial], Field(min_length=1, max_length=10_000)]
Reason = Annotated[str, Field(max_length=200, description="Why, for the history and for users.")]


class _OfDevices(Args):
    """What operations on devices take."""

    serials: Serials
    reason: Reason = ""


class _OfWorker(Args):
    """What operations on a worker take."""

    worker: Id
    reason: Reason = ""


class EndReservationArgs(Args):
    """``end``: end anybody's reservation."""

    reservation: Id
    reason: Reason = ""


class RebootArgs(_OfDevices):
    """``reboot``: restart boards; what they measure fails."""


class ReflashArgs(_OfDevices):
    """``reflash``: write boards' firmware anew; what they measure fails."""


class QuarantineArgs(Args):
    """``quarantine``: give devices to nobody until told otherwise; they fail their holders."""

    serials: Serials
    reason: Annotated[str, Field(min_length=1, max_length=200)]


class UnquarantineArgs(_OfDevices):
    """``unquarantine``: let devices be reserved again."""


class ForgetArgs(_OfDevices):
    """``forget``: drop devices that are gone for good; one that comes back is known anew."""


class MoveArgs(_OfDevices):
    """``move``: have devices belong to a worker that says it has them, reservations included."""

    to: Id = Field(description="The worker that they belong to from now on.")


class DrainArgs(_OfWorker):
    """``drain``: let a worker finish its reservations and give it no new ones."""


class UndrainArgs(_OfWorker):
    """``undrain``: let a worker have reservations again."""


class RetireArgs(_OfWorker):
    """``retire``: forget a worker that is gone for good, and all that is retained of it."""


class DevicesChanged(Message):
    """Answer to operations on devices: which of them changed."""

    serials: list[Serial]


class WorkerChanged(Message):
    """Answer to ``drain`` and ``undrain``: what the worker still has to finish."""

    worker: Id
    reservations: list[Id] = Field(description="Reservations that hold devices of it.")


class WorkerRetired(Message):
    """Answer to ``retire``: what became of what the worker had."""

    worker: Id
    forgotten: list[Serial] = Field(description="Devices that are known no more.")
    moved: dict[Serial, Id] = Field(
        default_factory=dict, description="Devices that another worker has, and which."
    )
    lost: list[Serial] = Field(
        default_factory=list,
        description="Devices that were held: they have failed, or are quarantined still.",
    )
    ended: list[Id] = Field(
        default_factory=list, description="Reservations that ended, for nothing was left of them."
    )


OPERATIONS: dict[str, tuple[type[Args], type[Message]]] = {
    "end": (EndReservationArgs, ReservationReply),
    "reboot": (RebootArgs, DevicesChanged),
    "reflash": (ReflashArgs, DevicesChanged),
    "quarantine": (QuarantineArgs, DevicesChanged),
    "unquarantine": (UnquarantineArgs, DevicesChanged),
    "forget": (ForgetArgs, DevicesChanged),
    "move": (MoveArgs, DevicesChanged),
    "drain": (DrainArgs, WorkerChanged),
    "undrain": (UndrainArgs, WorkerChanged),
    "retire": (RetireArgs, WorkerRetired),
}
"""What administrators can ask of control: the arguments and what ``ok`` of the answer holds."""
