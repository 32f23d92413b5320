"""Retained topics that may be missing or wrong, published or cleared anew.

Messages get lost with the control or the broker that was to carry them; what they were about is in
the database.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import func
from sqlmodel import col, select

from icebus.control.operations.reports.claims import repeat_claims
from icebus.control.operations.reports.device_reports import record_devices
from icebus.control.store import history
from icebus.control.store.database import batches
from icebus.control.store.live import IS_HELD, IS_LIVE
from icebus.control.store.tables import DeviceRow, HistoryRow, HoldRow, ReservationRow, WorkerRow
from icebus.control.transaction import Transaction
from icebus.schemas.operations.history import HistoryArgs
from icebus.schemas.operations.reservations import ReservationState

RETAINED_HISTORY = 100
"""Entries of the history that are retained, which make some 20 kB."""


def publish_everything(transaction: Transaction) -> None:
    """Publish every reservation that lives, and what is desired of every device and worker."""
    query = (
        select(DeviceRow, ReservationRow)
        .select_from(DeviceRow)
        .outerjoin(
            HoldRow,
            (col(HoldRow.serial) == col(DeviceRow.serial)) & IS_HELD,
        )
        .outerjoin(ReservationRow, col(ReservationRow.id) == col(HoldRow.reservation))
    )
    claimed = []
    for device, reservation in transaction.session.exec(query):
        transaction.publish_desired(device, reservation)
        if device.claimed_since is not None:
            claimed.append(device.serial)
    repeat_claims(transaction, claimed)
    there = select(WorkerRow).where(col(WorkerRow.retired).is_(None))
    for worker in transaction.session.exec(there):
        transaction.publish_draining(worker.name, worker.draining)
    for reservation in transaction.session.exec(select(ReservationRow).where(IS_LIVE)):
        transaction.publish_document(reservation)


def repeat_desired(transaction: Transaction) -> None:
    """Publish again what is desired of devices whose workers answer and have not taken it up.

    Done with every heartbeat. The queue is looked at too: nobody says that a worker's time to come
    back has passed.
    """
    transaction.request_scheduling()
    query = select(DeviceRow.serial, DeviceRow.generation, DeviceRow.worker)
    behind, moved = set(), set()
    for serial, generation, worker in transaction.session.exec(query):
        if (worker or None) != transaction.workers.owner(serial):
            moved.add(serial)
        elif _is_behind(transaction, serial, generation):
            behind.add(serial)
    if behind or moved:
        record_devices(transaction, behind | moved, republish=behind)


def publish_history(transaction: Transaction, published: int | None) -> int:
    """Publish the last of the history, if there is more than was published.

    Args:
        transaction: everything happens in it.
        published: the number of the last entry that was published; None for nothing yet.

    Returns:
        That of the last entry there is; 0 for none.
    """
    last = transaction.session.exec(select(func.max(HistoryRow.number))).one() or 0
    if last != published:
        entries = history.read(transaction.session, HistoryArgs(limit=RETAINED_HISTORY))
        transaction.publish_history(entries)
    return last


def _is_behind(transaction: Transaction, serial: str, generation: int) -> bool:
    owner = transaction.workers.owner(serial)
    if owner is None or not transaction.health(owner).answers:
        return False
    report = transaction.workers.get(owner).current(serial)
    return report is not None and report.generation < generation


def repeat_documents(transaction: Transaction, names: Collection[str]) -> None:
    """Publish the documents of those reservations that live."""
    query = select(ReservationRow).where(col(ReservationRow.id).in_(names), IS_LIVE)
    for reservation in transaction.session.exec(query):
        transaction.publish_document(reservation)


def clear_documents(transaction: Transaction, names: Collection[str]) -> None:
    """Clear those retained documents whose reservations do not live.

    What ended gets its last document first: whoever was to say so may have died before.
    """
    for some in batches(names):
        query = select(ReservationRow).where(col(ReservationRow.id).in_(some))
        known = {row.id: row for row in transaction.session.exec(query)}
        for name in some:
            row = known.get(name)
            if row is None:
                transaction.clear_document(name)
            elif row.state is ReservationState.ENDED:
                transaction.publish_document(row)


def clear_desired(transaction: Transaction, pairs: Collection[tuple[str, str]]) -> None:
    """Clear what workers were told about devices that are not theirs."""
    for some in batches(pairs):
        query = select(DeviceRow.worker, DeviceRow.serial).where(
            col(DeviceRow.serial).in_({serial for _, serial in some})
        )
        theirs = set(transaction.session.exec(query))
        for worker, serial in some:
            if (worker, serial) not in theirs:
                transaction.clear_desired(worker, serial)
