"""Who held which device: what control published, against what it wrote down in its history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from icebus.bus import BrokerAddress, Bus, Incoming
from icebus.schemas.deadline import Deadline
from icebus.schemas.message import decode
from icebus.schemas.operations.history import HistoryEntry, HistoryEvent
from icebus.schemas.operations.reservations import Reservation
from icebus.schemas.topics import RESERVATION

TIMEOUT = 20.0

Hold = tuple[str, str]
"""A reservation, and the serial of a device in it."""


class HoldObserver:
    """Notes every hold that control publishes, until it is closed.

    Args:
        address: of the broker, as a control, which may read all reservations.

    Attributes:
        published: the holds.
    """

    def __init__(self, address: BrokerAddress) -> None:
        self.published: set[Hold] = set()
        self._bus = Bus(address, name="hold-observer", session_expiry=0)
        self._bus.subscribe(RESERVATION, self._note)
        self._bus.connect(Deadline.after(TIMEOUT))

    def _note(self, incoming: Incoming) -> None:
        if incoming.payload:
            reservation = decode(Reservation, incoming.payload)
            self.published.update((reservation.id, device.serial) for device in reservation.devices)

    def close(self) -> None:
        """Stop observing."""
        self._bus.close(Deadline.after(TIMEOUT))


def contradictions(history: Iterable[HistoryEntry], published: Iterable[Hold]) -> Iterator[str]:
    """What is wrong with a history whose farm is idle again.

    Args:
        history: of all devices, oldest first.
        published: holds that somebody was told of, or that something was measured in.
    """
    holder: dict[str, str] = {}
    recorded: set[Hold] = set()
    for entry in history:
        serial, reservation = entry.serial, entry.reservation
        if serial is None or reservation is None:
            continue
        if entry.event is HistoryEvent.RESERVED:
            if serial in holder:
                yield f"{serial} was given to {reservation} while {holder[serial]} held it"
            holder[serial] = reservation
            recorded.add((reservation, serial))
        elif entry.event is HistoryEvent.RELEASED:
            if holder.get(serial) != reservation:
                yield f"{reservation} gave back {serial}, which {holder.get(serial)} held"
            holder.pop(serial, None)
    for serial, reservation in holder.items():
        yield f"{serial} was never given back by {reservation}"
    for reservation, serial in sorted(set(published) - recorded):
        yield f"{serial} was used in {reservation}, which never held it by the history"
