"""The devices that the scheduler chooses from, as database and workers show them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import col, select

from icebus.control.decide.obstacles import Candidate, Situation, Wanted, find_obstacle
from icebus.control.decide.scheduler import choose_devices
from icebus.control.store.live import IS_HELD
from icebus.control.store.tables import DeviceRow, HoldRow, ReservationRow, WorkerRow
from icebus.control.transaction import Transaction
from icebus.schemas.liveness import Health
from icebus.schemas.selectors import labels_of


@dataclass(frozen=True)
class StoredDevice:
    """A device of the database, with the live reservation that holds it."""

    serial: str
    generation: int
    quarantined: str | None
    reservation: str | None
    user: str | None
    until: datetime | None
    claimed_by: list[str] | None = None


def stored_devices(transaction: Transaction, serials: Collection[str] = ()) -> list[StoredDevice]:
    """The devices of the database; all of them unless some are named."""
    query = (
        select(DeviceRow.serial, DeviceRow.generation, DeviceRow.quarantined, ReservationRow.id)
        .add_columns(col(ReservationRow.user), col(ReservationRow.until))
        .add_columns(col(DeviceRow.claimed_by), col(DeviceRow.worker))
        .select_from(DeviceRow)
        .outerjoin(
            HoldRow,
            (col(HoldRow.serial) == col(DeviceRow.serial)) & IS_HELD,
        )
        .outerjoin(ReservationRow, col(ReservationRow.id) == col(HoldRow.reservation))
        .order_by(col(DeviceRow.serial))
    )
    if serials:
        query = query.where(col(DeviceRow.serial).in_(serials))
    found = []
    for *row, worker in transaction.session.execute(query):
        # What another control has decided counts.
        transaction.workers.set_owner(row[0], worker or None, transaction.monotonic)
        found.append(StoredDevice(*row))
    return found


def draining_workers(transaction: Transaction) -> dict[str, str]:
    """The workers that administrators drain, and why."""
    query = select(WorkerRow).where(col(WorkerRow.draining).is_not(None))
    return {row.name: row.draining or "" for row in transaction.session.exec(query)}


def candidates(transaction: Transaction, serials: Collection[str] = ()) -> list[Candidate]:
    """The devices for the scheduler; all of them unless some are named."""
    workers, draining = transaction.workers, draining_workers(transaction)
    health: dict[str, Health] = {}
    found = []
    for each in stored_devices(transaction, serials):
        report = workers.report(each.serial)
        owner = workers.owner(each.serial)
        if report is None or owner is None:
            continue
        if owner not in health:
            health[owner] = transaction.health(owner)
        gone = health[owner] is Health.GONE
        worker = workers.get(owner)
        current = worker.current(each.serial) is not None
        obstacle, why = find_obstacle(
            Situation(
                report=report,
                owner=owner,
                health=health[owner],
                why_gone=workers.why_gone(owner) if gone else "",
                drains=worker.drains,
                draining=draining.get(owner),
                quarantined=each.quarantined,
                holder=each.user,
                up_to_date=current and report.generation == each.generation,
            )
        )
        found.append(
            Candidate(
                each.serial,
                owner,
                firmware=report.firmware,
                labels=labels_of(owner, report),
                obstacle=obstacle,
                why=why,
                holder=each.user,
                free_at=each.until,
            )
        )
    return found


def shortlist(transaction: Transaction, wanted: Wanted) -> list[str]:
    """The devices that the scheduler would choose for a request by the reports alone.

    Far fewer than all devices; whether they can be had is for the database to say.
    """
    usable = (
        (wanted.needs_flashing(worker, report.firmware), report.serial, worker)
        for worker, report in transaction.workers.free_devices(transaction.monotonic)
        if worker in wanted.firmware
        and (not wanted.selector.requirements or wanted.selector.matches(labels_of(worker, report)))
    )
    return choose_devices(usable, wanted.number)
