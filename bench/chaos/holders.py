"""Who held which device, by two accounts: what control told everybody, and what it wrote down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from icebus.bus import BrokerAddress, Bus, Incoming
from icebus.schemas.deadline import Deadline
from icebus.schemas.history import HistoryEntry, HistoryEvent
from icebus.schemas.message import decode
from icebus.schemas.reservations import Reservation
from icebus.schemas.topics import RESERVATION

TIMEOUT = 20.0

Grant = tuple[str, str]
"""A reservation, and the serial of a device in it."""


class Witness:
    """Notes every device that was ever seen in a reservation, for as long as it is open.

    Args:
        address: of the broker, as a control: one that leads may be told of everything.

    Attributes:
        seen: the grants.
    """

    def __init__(self, address: BrokerAddress) -> None:
        self.seen: set[Grant] = set()
        self._bus = Bus(address, name="witness", session_expiry=0)
        self._bus.subscribe(RESERVATION, self._note)
        self._bus.connect(Deadline.after(TIMEOUT))

    def _note(self, incoming: Incoming) -> None:
        if incoming.payload:
            reservation = decode(Reservation, incoming.payload)
            self.seen.update((reservation.id, device.serial) for device in reservation.devices)

    def close(self) -> None:
        """See no more."""
        self._bus.close(Deadline.after(TIMEOUT))


def contradictions(history: Iterable[HistoryEntry], seen: Iterable[Grant]) -> Iterator[str]:
    """What is wrong with a history whose farm is idle again.

    Args:
        history: of all devices, oldest first.
        seen: grants that somebody was told of, or served under.
    """
    holder: dict[str, str] = {}
    granted: set[Grant] = set()
    for entry in history:
        serial, reservation = entry.serial, entry.reservation
        if serial is None or reservation is None:
            continue
        if entry.event is HistoryEvent.RESERVED:
            if serial in holder:
                yield f"{serial} was given to {reservation} while {holder[serial]} held it"
            holder[serial] = reservation
            granted.add((reservation, serial))
        elif entry.event is HistoryEvent.RELEASED:
            if holder.get(serial) != reservation:
                yield f"{reservation} gave back {serial}, which {holder.get(serial)} held"
            holder.pop(serial, None)
    for serial, reservation in holder.items():
        yield f"{serial} was never given back by {reservation}"
    for reservation, serial in sorted(set(seen) - granted):
        yield f"{serial} was said to be in {reservation}, which never had it"
