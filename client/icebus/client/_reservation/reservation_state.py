"""What is known of a reservation: its devices, which of them work, whether it is over. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from icebus.client._reservation import document as documents
from icebus.client._reservation.queue_place import Waiting
from icebus.schemas.errors import IcebusError, ReservationEnded
from icebus.schemas.operations.reservations import Reservation


@dataclass(frozen=True)
class Change:
    """What a new document of a reservation says that the one before did not.

    Attributes:
        before: the document before.
        got_devices: whether it waited and has devices now.
        end_moved: seconds by which its end has moved.
        queue_place: where it stands in the queue, where that is new.
        failed: devices that can't be used any more, and why.
        moved: devices that another worker owns now, and what becomes of what they owed.
        newly_serving: devices that are ready for calls and were not.
        ended: why it is over, where that is new.
    """

    before: Reservation
    got_devices: bool
    end_moved: float
    queue_place: Waiting | None
    failed: Mapping[str, IcebusError]
    moved: Mapping[str, IcebusError]
    newly_serving: Sequence[str]
    ended: ReservationEnded | None


class ReservationState:
    """What is known of a reservation; its owner brings the lock.

    Args:
        document: as control told it at first; whose it is then is whose it has to stay.

    Attributes:
        document: as control last told it.
        ended: why it is over; None while it lives.
        queue_place: where it stood in the queue when that was last told.
        owners: the worker of each device, also of those that it let go of: their last outcomes
            count.
    """

    def __init__(self, document: Reservation) -> None:
        self.document = document
        self.ended: ReservationEnded | None = None
        self.queue_place: Waiting | None = None
        self.owners = _owners(document)
        self._user = document.user
        self._failed: dict[str, IcebusError] = {}

    @property
    def serials(self) -> list[str]:
        """Its devices; none while it is queued."""
        return [device.serial for device in documents.held(self.document)]

    @property
    def failures(self) -> list[IcebusError]:
        """Why devices of it can't be used."""
        return [self._failed[serial] for serial in self.serials if serial in self._failed]

    def error_of(self, serial: str) -> IcebusError | None:
        """Why a device can't be used, as far as control has told; None if it can."""
        return self.ended or self._failed.get(serial)

    def update(self, document: Reservation) -> Change | None:
        """Take a new document; None if it was overtaken by what happened since."""
        if document.revision < self.document.revision:
            return None
        before, self.document = self.document, document
        self.owners = _owners(document)
        known, errors = self._failed, documents.device_errors(document)
        self._failed = {serial: known.get(serial, error) for serial, error in errors.items()}
        last, place = self.queue_place, Waiting.of(document)
        self.queue_place = place or last
        # With the document, not after it: one that is over prepares no devices, and whoever waits
        # for them would take that for ready.
        over = documents.over_error(document, self._user)
        ended = over if over is not None and self.end(over) else None
        return Change(
            before=before,
            got_devices=over is None
            and documents.is_queued(before)
            and not documents.is_queued(document),
            end_moved=_seconds(document) - _seconds(before),
            queue_place=place if place != last else None,
            failed={s: error for s, error in self._failed.items() if s not in known},
            moved=documents.moved_errors(before, document),
            newly_serving=[
                serial
                for serial in documents.newly_serving(before, document)
                if serial not in self._failed
            ],
            ended=ended,
        )

    def fail(self, serial: str, error: IcebusError) -> None:
        """A device was told to have failed."""
        self._failed.setdefault(serial, error)

    def end(self, error: ReservationEnded) -> bool:
        """It is over; whether that is new."""
        if self.ended is not None:
            return False
        self.ended = error
        return True


def _owners(document: Reservation) -> dict[str, str]:
    return {device.serial: device.worker for device in document.devices}


def _seconds(document: Reservation) -> float:
    return (document.until - document.created).total_seconds()
