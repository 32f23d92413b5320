"""Standing in the queue: what a client is told while its reservation has no devices yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from icebus.schemas.errors import (
    DeadlineExceeded,
    DeviceUnavailable,
    NotEnoughDevices,
    ReservationQueued,
)
from icebus.schemas.operations.reservations import Reservation, ReserveArgs
from icebus.schemas.wording import counted


@dataclass(frozen=True)
class Waiting:
    """Where a reservation stands that waits for devices.

    Attributes:
        reservation: its id; ending it gives up the place.
        position: 1 is next.
        reason: what it waits for, for people.
        estimate: when that comes free if nobody extends; None where that is not known.
    """

    reservation: str
    position: int
    reason: str
    estimate: datetime | None = None

    @classmethod
    def of(cls, document: Reservation) -> Waiting | None:
        """What a reservation's document tells; None when it does not wait."""
        queue = document.queue
        if queue is None:
            return None
        return cls(document.id, queue.position, queue.reason, queue.estimate)


def still_queued_error(document: Reservation) -> ReservationQueued | DeadlineExceeded:
    """The error for needing the devices of a reservation that has none yet."""
    waiting = Waiting.of(document)
    if waiting is None:
        return DeadlineExceeded(
            f"reservation {document.id} got its devices too late; `icebus reservations` shows it",
            reservation=document.id,
        )
    return ReservationQueued(
        f"reservation {document.id} waits in the queue, at position {waiting.position}: "
        f"{waiting.reason}; `icebus reservations` shows it",
        reservation=document.id,
        position=waiting.position,
        reason=waiting.reason,
    )


def waited_in_vain_error(
    request: ReserveArgs, last: Waiting | None
) -> NotEnoughDevices | DeviceUnavailable:
    """The error for devices that did not come free for as long as the request would wait."""
    reason = last.reason if last else "they did not come free"
    waited = {"waited": request.wait, "reason": reason}
    if request.serials is not None:
        return DeviceUnavailable(
            f"waited {request.wait:g} s for {', '.join(request.serials)} in vain: {reason}; wait "
            "longer, or reserve others",
            **waited,
        )
    return NotEnoughDevices(
        f"waited {request.wait:g} s for {counted(request.count or 0, 'device')} in vain: {reason}; "
        "wait longer, or reserve fewer",
        wanted=request.count,
        **waited,
    )
