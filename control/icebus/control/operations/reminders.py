"""What the leader looks at with every heartbeat, whether or not anything was said.

Messages get lost with the control that was about to send them; what they were about does not.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlmodel import col, select

from icebus.control.decide.lifecycle import LIVE_RESERVATIONS
from icebus.control.operations import observation
from icebus.control.store.tables import DeviceRow, ReservationRow
from icebus.control.store.transaction import Work
from icebus.schemas.liveness import Health

_ANSWERING = (Health.READY, Health.UNSCHEDULABLE)


def remind(work: Work) -> None:
    """Say again what is desired of devices whose workers answer and have not taken it up.

    The queue is looked at too: nobody says that a worker's time to come back has passed.
    """
    work.stir()
    query = select(DeviceRow.serial, DeviceRow.generation)
    behind = {
        serial
        for serial, generation in work.session.exec(query)
        if _behind(work, serial, generation)
    }
    if behind:
        observation.observe(work, set(), behind)


def _behind(work: Work, serial: str, generation: int) -> bool:
    owner = work.farm.owner(serial)
    if owner is None or work.farm.health(owner, work.at) not in _ANSWERING:
        return False
    report = work.farm.worker(owner).current(serial)
    return report is not None and report.generation < generation


def repeat_documents(work: Work, names: Collection[str]) -> None:
    """Publish the documents of those reservations that live."""
    query = select(ReservationRow).where(
        col(ReservationRow.id).in_(names), col(ReservationRow.state).in_(LIVE_RESERVATIONS)
    )
    for reservation in work.session.exec(query):
        work.change(reservation)


def count_absence(work: Work) -> None:
    """Begin or end the grace of clients to which others than we have attached reservations."""
    query = select(ReservationRow).where(
        col(ReservationRow.state).in_(LIVE_RESERVATIONS), col(ReservationRow.client).is_not(None)
    )
    for reservation in work.session.exec(query):
        if work.clients.online(reservation.user, reservation.client or ""):
            reservation.orphaned_since = None
        elif reservation.orphaned_since is None:
            reservation.orphaned_since = work.now
    work.rescheduled = True
