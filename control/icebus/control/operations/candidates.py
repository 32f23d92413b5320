"""The devices that the scheduler chooses from, as database and workers show them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import col, select

from icebus.control.decide.lifecycle import LIVE_HOLDS
from icebus.control.decide.obstacles import Candidate, Obstacle, Wanted
from icebus.control.decide.scheduler import choose_devices
from icebus.control.store.tables import DeviceRow, HoldRow, ReservationRow, WorkerRow
from icebus.control.transaction import Transaction
from icebus.schemas.components import WorkerPhase
from icebus.schemas.devices import DeviceReport, DeviceState
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


def stored_devices(transaction: Transaction, serials: Collection[str] = ()) -> list[StoredDevice]:
    """The devices of the database; all of them unless some are named."""
    query = (
        select(DeviceRow.serial, DeviceRow.generation, DeviceRow.quarantined, ReservationRow.id)
        .add_columns(col(ReservationRow.user), col(ReservationRow.until))
        .outerjoin(
            HoldRow,
            (col(HoldRow.serial) == col(DeviceRow.serial)) & col(HoldRow.state).in_(LIVE_HOLDS),
        )
        .outerjoin(ReservationRow, col(ReservationRow.id) == col(HoldRow.reservation))
        .order_by(col(DeviceRow.serial))
    )
    if serials:
        query = query.where(col(DeviceRow.serial).in_(serials))
    return [StoredDevice(*row) for row in transaction.session.execute(query)]


def draining_workers(transaction: Transaction) -> dict[str, str]:
    """The workers that administrators drain, and why."""
    query = select(WorkerRow).where(col(WorkerRow.draining).is_not(None))
    return {row.name: row.draining or "" for row in transaction.session.exec(query)}


def candidates(transaction: Transaction, serials: Collection[str] = ()) -> list[Candidate]:
    """The devices for the scheduler; all of them unless some are named."""
    draining = draining_workers(transaction)
    found = []
    for each in stored_devices(transaction, serials):
        report = transaction.workers.report(each.serial)
        owner = transaction.workers.owner(each.serial)
        if report is None or owner is None:
            continue
        obstacle, why = _obstacle(transaction, each, owner, report, draining)
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


def _obstacle(
    transaction: Transaction,
    device: StoredDevice,
    owner: str,
    report: DeviceReport,
    draining: Mapping[str, str],
) -> tuple[Obstacle | None, str]:
    """Why a device can't be had. What lasts goes before what passes by itself."""
    if device.quarantined is not None:
        return Obstacle.QUARANTINED, f"quarantined: {device.quarantined}"
    if owner in draining:
        return Obstacle.DRAINING, f"not offered: worker {owner} drains ({draining[owner]})"
    health = transaction.health(owner)
    if health is Health.GONE:
        return Obstacle.STALE, f"out of reach: {transaction.workers.why_gone(owner)}"
    state = transaction.workers.get(owner).state
    if health is Health.UNSCHEDULABLE and state is not None and state.state is WorkerPhase.DRAINING:
        return Obstacle.DRAINING, f"not offered: worker {owner} drains"
    explained = f"{report.state}{f': {report.reason}' if report.reason else ''}"
    if report.state is DeviceState.BROKEN:
        return Obstacle.BROKEN, explained
    if report.state is DeviceState.QUARANTINED:
        return Obstacle.QUARANTINED, explained
    if device.reservation is not None:
        return Obstacle.HELD, f"held by {device.user}"
    if report.state is DeviceState.ABSENT:
        return Obstacle.ABSENT, explained
    if health is Health.UNKNOWN:
        return Obstacle.BUSY, f"out of reach: worker {owner} has not answered yet"
    if health is Health.UNSCHEDULABLE:
        return Obstacle.BUSY, f"not ready yet: worker {owner} is starting"
    ready = (
        report.state is DeviceState.READY
        and report.reservation is None
        and report.generation == device.generation
        and transaction.workers.get(owner).current(report.serial) is not None
    )
    return (None, "") if ready else (Obstacle.BUSY, f"not ready yet: {explained}")


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
