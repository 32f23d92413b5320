"""The operations of administrators. None of them needs the worker to be there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

from sqlalchemy import delete
from sqlmodel import col, select

from icebus.control.operations.due.retirement import check_known
from icebus.control.operations.reports.device_reports import move_device
from icebus.control.operations.requests.commands import (
    change_devices,
    reboot_devices,
    reflash_devices,
)
from icebus.control.operations.reservations import (
    end_reservation,
    find_live,
    increment_generation,
    live_holds_by_serial,
)
from icebus.control.store.live import IS_HELD
from icebus.control.store.tables import NOBODY, DeviceRow, HoldRow, WorkerRow
from icebus.control.transaction import Transaction
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import Conflict, UnknownDevice
from icebus.schemas.liveness import Health
from icebus.schemas.operations.administration import (
    DevicesChanged,
    DrainArgs,
    EndReservationArgs,
    ForgetArgs,
    MoveArgs,
    QuarantineArgs,
    RebootArgs,
    ReflashArgs,
    UndrainArgs,
    UnquarantineArgs,
    WorkerChanged,
)
from icebus.schemas.operations.history import HistoryEvent
from icebus.schemas.operations.reservations import EndReason, ReservationReply


def end(transaction: Transaction, user: str, args: EndReservationArgs) -> ReservationReply:
    """End anybody's reservation."""
    row = find_live(transaction, args.reservation)
    end_reservation(transaction, row, EndReason.ENDED_BY_ADMIN, actor=user, explanation=args.reason)
    return ReservationReply(reservation=transaction.document(row))


def reboot(transaction: Transaction, user: str, args: RebootArgs) -> DevicesChanged:
    """Have boards restarted."""
    serials = [device.serial for device in _known(transaction, args.serials)]
    reboot_devices(transaction, user, serials, reason=args.reason)
    return DevicesChanged(serials=serials)


def reflash(transaction: Transaction, user: str, args: ReflashArgs) -> DevicesChanged:
    """Have boards' firmware written anew."""
    serials = [device.serial for device in _known(transaction, args.serials)]
    reflash_devices(transaction, user, serials, args.reason)
    return DevicesChanged(serials=serials)


def quarantine(transaction: Transaction, user: str, args: QuarantineArgs) -> DevicesChanged:
    """Give devices to nobody until told otherwise."""
    serials = [
        device.serial
        for device in _known(transaction, args.serials)
        if device.quarantined != args.reason
    ]
    _set_quarantine(transaction, user, serials, args.reason, args.reason)
    return DevicesChanged(serials=serials)


def unquarantine(transaction: Transaction, user: str, args: UnquarantineArgs) -> DevicesChanged:
    """Let devices be reserved again, also those that their workers gave up."""
    known = _known(transaction, args.serials)
    ours = [device.serial for device in known if device.quarantined is not None]
    theirs = [
        device.serial
        for device in known
        if device.quarantined is None and _reported(transaction, device) is DeviceState.QUARANTINED
    ]
    _set_quarantine(transaction, user, ours, None, args.reason)
    # Nothing that we desire keeps these away: a reboot has their worker try once more.
    reboot_devices(transaction, user, theirs, HistoryEvent.UNQUARANTINED, args.reason)
    return DevicesChanged(serials=sorted(ours + theirs))


def forget(transaction: Transaction, user: str, args: ForgetArgs) -> DevicesChanged:
    """Drop devices that are gone for good."""
    known = _known(transaction, args.serials)
    held = live_holds_by_serial(transaction, args.serials)
    for device in known:
        if device.serial in held:
            _, row = held[device.serial]
            raise Conflict(
                f"{device.serial} is held by {row.user}; end reservation {row.id} first",
                serial=device.serial,
                reservation=row.id,
            )
        gone = device.worker == NOBODY or transaction.health(device.worker) is Health.GONE
        if not gone and _reported(transaction, device) is not DeviceState.ABSENT:
            raise Conflict(
                f"{device.serial} is there, at worker {device.worker}; unplug it first, or "
                "quarantine it",
                serial=device.serial,
            )
    serials = [device.serial for device in known]
    # Who held it stands in the history.
    transaction.session.execute(delete(HoldRow).where(col(HoldRow.serial).in_(serials)))
    for device in known:
        transaction.session.delete(device)
        transaction.clear_desired(device.worker, device.serial)
        transaction.clear_report(device.worker, device.serial)
        transaction.record_history(
            HistoryEvent.FORGOTTEN,
            actor=user,
            serial=device.serial,
            worker=device.worker,
            reason=args.reason,
        )
        transaction.log(f"{user} has {device.serial} forgotten", serial=device.serial)
    transaction.request_scheduling()
    return DevicesChanged(serials=serials)


def move(transaction: Transaction, user: str, args: MoveArgs) -> DevicesChanged:
    """Have devices belong to a worker that says it has them, and their reservations follow."""
    at = transaction.monotonic
    known = _known(transaction, args.serials)
    there = transaction.health(args.to).answers
    lacking = [
        device.serial
        for device in known
        if not there or not transaction.workers.get(args.to).has_now(device.serial)
    ]
    if lacking:
        has_not = f"has no {', '.join(lacking)}; plug it in there"
        why = has_not if there else "is not there; start it"
        raise Conflict(f"worker {args.to} {why} first", worker=args.to, serials=lacking)
    held = live_holds_by_serial(transaction, args.serials)
    moved = [device for device in known if device.worker != args.to]
    for device in moved:
        hold, reservation = held.get(device.serial, (None, None))
        move_device(transaction, device, hold, reservation, args.to, user, args.reason)
    serials = [device.serial for device in moved]
    transaction.session.flush()
    for device in increment_generation(transaction, serials):
        _, reservation = held.get(device.serial, (None, None))
        transaction.publish_desired(device, reservation)
        transaction.afterwards.append(
            partial(transaction.workers.set_owner, device.serial, args.to, at)
        )
    transaction.request_scheduling()
    return DevicesChanged(serials=serials)


def drain(transaction: Transaction, user: str, args: DrainArgs) -> WorkerChanged:
    """Let a worker finish its reservations and give it no new ones."""
    reason = args.reason or f"drained by {user}"
    return _drain(transaction, user, args.worker, HistoryEvent.DRAINED, args.reason, reason)


def undrain(transaction: Transaction, user: str, args: UndrainArgs) -> WorkerChanged:
    """Let a worker have reservations again."""
    return _drain(transaction, user, args.worker, HistoryEvent.UNDRAINED, args.reason, None)


def _known(transaction: Transaction, serials: Collection[str]) -> Sequence[DeviceRow]:
    query = select(DeviceRow).where(col(DeviceRow.serial).in_(serials))
    found = transaction.session.exec(query.order_by(col(DeviceRow.serial))).all()
    unknown = sorted(set(serials) - {device.serial for device in found})
    if unknown:
        raise UnknownDevice(
            f"no device {', '.join(unknown)}; `icebus devices` lists those there are",
            serials=unknown,
        )
    return found


def _reported(transaction: Transaction, device: DeviceRow) -> DeviceState | None:
    report = transaction.workers.report(device.serial)
    return None if report is None else report.state


def _set_quarantine(
    transaction: Transaction,
    user: str,
    serials: Collection[str],
    quarantined: str | None,
    reason: str,
) -> None:
    """Give devices to nobody, for that reason; None lets them be given again."""
    lifted = quarantined is None
    event = HistoryEvent.UNQUARANTINED if lifted else HistoryEvent.QUARANTINED
    for device, _, reservation in change_devices(transaction, user, serials, event, reason):
        device.quarantined = quarantined
        transaction.publish_desired(device, reservation)


def _drain(
    transaction: Transaction,
    user: str,
    worker: str,
    event: HistoryEvent,
    reason: str,
    draining: str | None,
) -> WorkerChanged:
    row = transaction.session.get(WorkerRow, worker)
    if row is None or row.retired is not None:
        check_known(transaction, worker)
    if row is None:
        row = WorkerRow(name=worker)
        transaction.session.add(row)
    if row.draining != draining:
        row.draining = draining
        transaction.record_history(event, actor=user, worker=worker, reason=reason)
        transaction.log(f"worker {worker} {event} by {user}", worker=worker)
        transaction.request_scheduling()
    transaction.publish_draining(worker, draining)
    query = select(HoldRow.reservation).where(HoldRow.worker == worker, IS_HELD).distinct()
    return WorkerChanged(worker=worker, reservations=sorted(transaction.session.exec(query)))
