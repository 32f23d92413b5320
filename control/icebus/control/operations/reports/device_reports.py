"""Bringing the database in line with what workers report: devices, and the holds they are in."""

from __future__ import annotations

import logging
from collections.abc import Collection

from pydantic import ValidationError
from sqlmodel import col, select

from icebus.control.decide.lifecycle import advance_hold
from icebus.control.decide.reconciler import Held, Observed, judge
from icebus.control.operations.reports.claims import record_claims
from icebus.control.operations.reservations import activate_if_served, live_holds_by_serial
from icebus.control.store.database import batches
from icebus.control.store.tables import NOBODY, DeviceRow, HoldRow, ReservationRow
from icebus.control.transaction import Transaction
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.ids import CONTROL
from icebus.schemas.liveness import Health
from icebus.schemas.operations.history import HistoryEvent
from icebus.schemas.operations.reservations import (
    DeviceFailedEvent,
    HoldState,
    Initialized,
    ReservationState,
)

log = logging.getLogger(__name__)

REASON_LENGTH = 300
"""Characters of a worker's explanation that are passed on."""


def restore(transaction: Transaction) -> None:
    """Take over the last reports that were recorded, until their workers are heard."""
    for device in transaction.session.exec(select(DeviceRow).where(DeviceRow.worker != NOBODY)):
        try:
            report = DeviceReport.model_validate(device.report)
        except ValidationError:
            # Written by another version. Its worker will tell us again.
            log.warning("the last report on %s can't be read", device.serial)
        else:
            claimed, at = device.claimed_by or (), transaction.monotonic
            transaction.workers.restore(device.serial, device.worker, report, claimed, at)


def record_devices(
    transaction: Transaction, serials: Collection[str], republish: Collection[str] = ()
) -> None:
    """Record what is reported of these devices, and judge the holds they are in.

    What is desired is published of those in ``republish``, and where it has changed.
    """
    transaction.request_scheduling()
    for some in batches({*serials, *republish}):
        _record(transaction, some, republish)


def _record(transaction: Transaction, serials: list[str], republish: Collection[str]) -> None:
    query = select(DeviceRow).where(col(DeviceRow.serial).in_(serials))
    devices = {device.serial: device for device in transaction.session.exec(query)}
    held = live_holds_by_serial(transaction, serials)
    maybe_active: dict[str, ReservationRow] = {}
    for serial in serials:
        device = devices.get(serial)
        if device is not None:
            # What another control has decided counts.
            transaction.workers.set_owner(serial, device.worker or None, transaction.monotonic)
        report = transaction.workers.report(serial)
        owner = transaction.workers.owner(serial)
        if report is None or owner is None:
            continue
        hold, reservation = held.get(serial, (None, None))
        unknown = device is None or device.worker == NOBODY
        if unknown and not _is_there(transaction, owner, report):
            # Nobody has it, and nobody knows it: it was forgotten, or its worker retired.
            continue
        if device is None:
            device = DeviceRow(serial=serial, worker=owner, report={})
            transaction.session.add(device)
            devices[serial] = device
            changed = True
        else:
            changed = device.worker != owner
            if changed:
                move_device(transaction, device, hold, reservation, owner)
        current = transaction.workers.get(owner).current(serial) is not None
        changed |= current and _raise_generation(device, report)
        recorded = report.model_dump(mode="json", exclude={"progress"})
        if device.report != recorded:
            device.report = recorded
        if changed or serial in republish:
            transaction.publish_desired(device, reservation)
        if hold is not None and reservation is not None:
            _judge(transaction, device, hold, reservation, report, current=current)
            if hold.state is HoldState.SERVING and reservation.state is ReservationState.PREPARING:
                maybe_active[reservation.id] = reservation
    activate_if_served(transaction, maybe_active.values())
    record_claims(transaction, devices.values())


def _is_there(transaction: Transaction, worker: str, report: DeviceReport) -> bool:
    """Whether a device is there, as far as is known, and its worker, whose late word is no news."""
    if report.state is DeviceState.ABSENT or transaction.workers.get(worker).state is None:
        return False
    return transaction.health(worker) is not Health.GONE


def move_device(
    transaction: Transaction,
    device: DeviceRow,
    hold: HoldRow | None,
    reservation: ReservationRow | None,
    owner: str,
    actor: str = CONTROL,
    reason: str = "",
) -> None:
    """Follow a board that was plugged in at another worker; its reservation goes with it."""
    before = f"from {device.worker}" if device.worker != NOBODY else "from a retired worker"
    transaction.log(f"{device.serial} moved {before} to {owner}", serial=device.serial)
    transaction.record_history(
        HistoryEvent.DEVICE_MOVED,
        reservation,
        actor=actor,
        serial=device.serial,
        worker=owner,
        reason=f"{before}{f': {reason}' if reason else ''}",
    )
    transaction.clear_desired(device.worker, device.serial)
    device.worker = owner
    if hold is not None and reservation is not None:
        hold.worker = owner
        if hold.state is HoldState.SERVING:
            hold.state = advance_hold(hold.state, HoldState.PREPARING)
            hold.reason = f"moved to worker {owner}"
        transaction.publish_document(reservation)


def _raise_generation(device: DeviceRow, report: DeviceReport) -> bool:
    """Get ahead of a worker that knows more of the past than our database, which was lost.

    It ignores lower generations, so it would never do again what we say.
    """
    if report.generation <= device.generation:
        return False
    device.generation = report.generation + 1
    return True


def _judge(
    transaction: Transaction,
    device: DeviceRow,
    hold: HoldRow,
    reservation: ReservationRow,
    report: DeviceReport,
    *,
    current: bool,
) -> None:
    """Find out how a hold stands now, and tell of it if that is news."""
    held = Held(hold.reservation, hold.worker, device.generation, hold.state, hold.reason)
    observed = Observed(
        report,
        current=current,
        health=transaction.health(device.worker),
        why_gone=transaction.workers.why_gone(device.worker),
    )
    verdict = judge(held, observed)
    # The one character that PostgreSQL's texts can't hold.
    reason = verdict.reason[:REASON_LENGTH].replace("\0", "")
    before = hold.state
    if (verdict.state, reason) == (before, hold.reason):
        return
    hold.reason = reason
    transaction.publish_document(reservation)
    if verdict.state is before:
        return
    hold.state = advance_hold(before, verdict.state)
    transaction.log(
        f"{device.serial} is {hold.state}{f': {reason}' if reason else ''}",
        serial=device.serial,
        reservation=reservation.id,
    )
    if hold.state is HoldState.SERVING:
        data = Initialized(reservation=reservation.id, serial=device.serial)
        transaction.send_event(reservation, "initialized", data, device.serial)
    elif hold.state is HoldState.FAILED:
        failed = DeviceFailedEvent(
            reservation=reservation.id, serial=device.serial, code=verdict.code, reason=reason
        )
        transaction.send_event(reservation, "device_failed", failed, device.serial)
        transaction.record_history(
            HistoryEvent.DEVICE_FAILED,
            reservation,
            serial=device.serial,
            worker=device.worker,
            reason=reason,
        )
