"""Workers that are gone for good: all that is known, retained and wanted of them ends.

To retire a worker is to forget it, not to forbid it: that is the broker's. One that was taken for
gone, and is not, is known anew when it shows itself, as a worker that never was here.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import delete
from sqlmodel import col, select

from icebus.control.decide.lifecycle import advance_hold
from icebus.control.operations.reports.device_reports import move_device
from icebus.control.operations.reservations import end_reservation, live_holds_by_serial
from icebus.control.store.database import batches
from icebus.control.store.live import IS_HELD
from icebus.control.store.tables import NOBODY, DeviceRow, HoldRow, ReservationRow, WorkerRow
from icebus.control.transaction import Transaction
from icebus.schemas.components import Principals
from icebus.schemas.errors import Conflict, InvalidRequest, WorkerLost
from icebus.schemas.ids import CONTROL
from icebus.schemas.liveness import Health, is_gone
from icebus.schemas.operations.administration import RetireArgs, WorkerRetired
from icebus.schemas.operations.history import HistoryEvent
from icebus.schemas.operations.reservations import DeviceFailedEvent, EndReason, HoldState
from icebus.schemas.topics import Role

REMOVED = "it was removed from the broker"
"""Why a worker is retired that the broker knows no more."""


def retire(transaction: Transaction, user: str, args: RetireArgs) -> WorkerRetired:
    """Forget a worker that is gone for good."""
    name = args.worker
    health = transaction.health(name)
    if name in known_workers(transaction) and health is not Health.GONE:
        if health is Health.UNKNOWN:
            raise Conflict(
                f"whether worker {name} is there is not known yet; try again in a few seconds",
                worker=name,
            )
        raise Conflict(
            f"worker {name} is there: stop it first (`icebus admin drain {name}` lets it finish), "
            f"or have the broker know it no more: `icebus-broker remove {name}`",
            worker=name,
        )
    if not _was_retired(transaction, name):
        check_known(transaction, name)
    return retire_worker(transaction, name, user, args.reason)


def retire_unknown(transaction: Transaction, principals: Principals) -> list[WorkerRetired]:
    """Forget all workers that the broker does not know any more, there or not.

    To be called when the list of principals changes, and when a worker is heard of for the first
    time, whose words may have been on their way when it was removed.

    Args:
        transaction: everything happens in it.
        principals: all that the broker knows, those of bridges with whom they speak for.
    """
    of_workers = [each for each in principals.principals if each.role == Role.WORKER]
    names = {name for each in of_workers for name in (each.id, *(each.speaks_for or ()))}
    others = sorted(known_workers(transaction).difference(names))
    return [retire_worker(transaction, name, CONTROL, REMOVED) for name in others]


def check_known(transaction: Transaction, worker: str) -> None:
    """Refuse a worker nobody ever heard of: its name is misspelt.

    Raises:
        InvalidRequest: it is one; the message names those that are known.
    """
    known = known_workers(transaction)
    if worker not in known:
        listing = ", ".join(sorted(known)) or "none"
        raise InvalidRequest(f"no worker {worker} was ever here; known: {listing}", worker=worker)


def known_workers(transaction: Transaction) -> set[str]:
    """All workers that were ever heard of and are not retired."""
    known = {each.name for each in transaction.workers.all() if each.state is not None}
    known.update(transaction.session.exec(select(DeviceRow.worker).distinct()))
    return known - {NOBODY}


def retire_worker(
    transaction: Transaction, worker: str, actor: str, reason: str = ""
) -> WorkerRetired:
    """Forget a worker, whether it is there or not, and clear all that is retained of it.

    Its devices go to whoever else has them. Of the others those that are held fail, to be replaced
    where that is wanted; a reservation of which nothing is left ends. What nobody holds is
    forgotten, unless an administrator has it given to nobody: that outlives its worker.
    """
    why = f"worker {worker} was retired{f': {reason}' if reason else ''}"
    query = select(DeviceRow).where(DeviceRow.worker == worker)
    devices = transaction.session.exec(query.order_by(col(DeviceRow.serial))).all()
    done = WorkerRetired(worker=worker, forgotten=[])
    losers: dict[str, ReservationRow] = {}
    for some in batches([device.serial for device in devices]):
        held = live_holds_by_serial(transaction, some)
        for device in (each for each in devices if each.serial in some):
            hold, reservation = held.get(device.serial, (None, None))
            heir = transaction.workers.heir(device.serial, worker, transaction.monotonic)
            if heir is not None:
                move_device(transaction, device, hold, reservation, heir, actor, why)
                done.moved[device.serial] = heir
                continue
            if device.claimed_since is not None:
                device.claimed_by = device.claimed_since = None
                transaction.publish_claim(device.serial, None)
            if hold is not None and reservation is not None:
                _fail(transaction, hold, reservation, why)
                losers[reservation.id] = reservation
            if hold is not None or device.quarantined is not None:
                device.worker = NOBODY
                done.lost.append(device.serial)
            else:
                done.forgotten.append(device.serial)
                transaction.record_history(
                    HistoryEvent.FORGOTTEN,
                    actor=actor,
                    serial=device.serial,
                    worker=worker,
                    reason=why,
                )
    transaction.session.flush()
    for name, reservation in losers.items():
        if not reservation.replace and not _has_others(transaction, name):
            end_reservation(transaction, reservation, EndReason.DEVICES_FAILED, actor, why)
            done.ended.append(name)
    _delete(transaction, done.forgotten)
    _note(transaction, worker, actor, reason)
    clear_worker(transaction, worker, [device.serial for device in devices])
    transaction.request_scheduling()
    at = transaction.monotonic
    transaction.afterwards.append(lambda: transaction.workers.retire(worker, at))
    return done


def take_note_of(transaction: Transaction, workers: Collection[str]) -> None:
    """Workers were heard of for the first time, by us: some may have been retired.

    What is said of one that is gone is said too late, such as its last will or what a bridge brings
    once more, and is cleared. One that is there is known anew.
    """
    query = select(WorkerRow).where(
        col(WorkerRow.name).in_(workers), col(WorkerRow.retired).is_not(None)
    )
    for row in transaction.session.exec(query):
        worker = transaction.workers.get(row.name)
        if worker.state is None or is_gone(worker.state):
            clear_worker(transaction, row.name, [])
        else:
            row.retired = None
            transaction.log(f"worker {row.name} was retired and is here again", worker=row.name)


def clear_worker(transaction: Transaction, worker: str, serials: Collection[str]) -> None:
    """Clear all that is retained of a worker."""
    reported = transaction.workers.get(worker).reports
    for serial in sorted({*serials, *reported}):
        transaction.clear_desired(worker, serial)
        transaction.clear_report(worker, serial)
    transaction.clear_worker(worker)


def drop_orphans(transaction: Transaction) -> None:
    """Drop devices of retired workers that nobody holds any more."""
    held = select(HoldRow.serial).where(IS_HELD)
    query = select(DeviceRow.serial).where(
        DeviceRow.worker == NOBODY,
        col(DeviceRow.quarantined).is_(None),
        col(DeviceRow.serial).not_in(held),
    )
    _delete(transaction, list(transaction.session.exec(query)))


def _fail(transaction: Transaction, hold: HoldRow, reservation: ReservationRow, why: str) -> None:
    before = hold.state
    hold.reason = why
    transaction.publish_document(reservation)
    if before is HoldState.FAILED:
        return
    hold.state = advance_hold(before, HoldState.FAILED)
    failed = DeviceFailedEvent(
        reservation=reservation.id, serial=hold.serial, code=WorkerLost.code, reason=why
    )
    transaction.send_event(reservation, "device_failed", failed, hold.serial)
    transaction.record_history(
        HistoryEvent.DEVICE_FAILED, reservation, serial=hold.serial, worker=hold.worker, reason=why
    )


def _has_others(transaction: Transaction, reservation: str) -> bool:
    """Whether a reservation has devices of which there is still a worker."""
    query = (
        select(HoldRow.serial)
        .join(DeviceRow, col(DeviceRow.serial) == col(HoldRow.serial))
        .where(
            HoldRow.reservation == reservation,
            IS_HELD,
            DeviceRow.worker != NOBODY,
        )
    )
    return transaction.session.exec(query).first() is not None


def _was_retired(transaction: Transaction, worker: str) -> bool:
    row = transaction.session.get(WorkerRow, worker)
    return row is not None and row.retired is not None


def _note(transaction: Transaction, worker: str, actor: str, reason: str) -> None:
    row = transaction.session.get(WorkerRow, worker)
    if row is None:
        row = WorkerRow(name=worker)
        transaction.session.add(row)
    again = row.retired is not None
    row.draining, row.retired = None, transaction.now
    if not again:
        transaction.record_history(HistoryEvent.RETIRED, actor=actor, worker=worker, reason=reason)
        transaction.log(
            f"worker {worker} retired by {actor}{f': {reason}' if reason else ''}", worker=worker
        )


def _delete(transaction: Transaction, serials: Collection[str]) -> None:
    for some in batches(serials):
        # Who held it stands in the history.
        transaction.session.execute(delete(HoldRow).where(col(HoldRow.serial).in_(some)))
        transaction.session.execute(delete(DeviceRow).where(col(DeviceRow.serial).in_(some)))
