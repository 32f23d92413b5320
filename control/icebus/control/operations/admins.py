"""The operations of administrators. None of them needs the worker to be there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import delete
from sqlmodel import col, select

from icebus.control.decide.lifecycle import LIVE_HOLDS
from icebus.control.operations.observation import holds_of
from icebus.control.operations.reservations import finish, next_generation
from icebus.control.operations.users import Operation, find_live
from icebus.control.store.tables import DeviceRow, HoldRow, WorkerRow
from icebus.control.store.transaction import Work
from icebus.schemas.administration import (
    DevicesChanged,
    DrainArgs,
    EndReservationArgs,
    ForgetArgs,
    QuarantineArgs,
    RebootArgs,
    ReflashArgs,
    UndrainArgs,
    UnquarantineArgs,
    WorkerChanged,
)
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import Conflict, InvalidRequest, UnknownDevice
from icebus.schemas.history import HistoryEvent
from icebus.schemas.liveness import Health
from icebus.schemas.reservations import EndReason, ReservationReply


def end(work: Work, user: str, args: EndReservationArgs) -> ReservationReply:
    """End anybody's reservation."""
    row = find_live(work, args.reservation)
    finish(work, row, EndReason.ENDED_BY_ADMIN, actor=user, explanation=args.reason)
    return ReservationReply(reservation=work.document(row))


def reboot(work: Work, user: str, args: RebootArgs) -> DevicesChanged:
    """Have boards restarted."""
    return _change(work, user, args.serials, HistoryEvent.REBOOTED, args.reason, reboot=1)


def reflash(work: Work, user: str, args: ReflashArgs) -> DevicesChanged:
    """Have boards' firmware written anew."""
    return _change(work, user, args.serials, HistoryEvent.REFLASHED, args.reason, reflash=1)


def quarantine(work: Work, user: str, args: QuarantineArgs) -> DevicesChanged:
    """Give devices to nobody until told otherwise."""
    serials = [
        device.serial for device in _known(work, args.serials) if device.quarantined != args.reason
    ]
    for device in _known(work, serials):
        device.quarantined = args.reason
    return _change(work, user, serials, HistoryEvent.QUARANTINED, args.reason)


def unquarantine(work: Work, user: str, args: UnquarantineArgs) -> DevicesChanged:
    """Let devices be reserved again, also those that their workers gave up."""
    known = _known(work, args.serials)
    ours = [device.serial for device in known if device.quarantined is not None]
    theirs = [
        device.serial
        for device in known
        if device.quarantined is None and _reported(work, device) is DeviceState.QUARANTINED
    ]
    for device in known:
        device.quarantined = None
    event = HistoryEvent.UNQUARANTINED
    _change(work, user, ours, event, args.reason)
    # Nothing that we desire keeps these away: a reboot has their worker try once more.
    _change(work, user, theirs, event, args.reason, reboot=1)
    return DevicesChanged(serials=sorted(ours + theirs))


def forget(work: Work, user: str, args: ForgetArgs) -> DevicesChanged:
    """Drop devices that are gone for good."""
    known = _known(work, args.serials)
    held = holds_of(work, args.serials)
    for device in known:
        if device.serial in held:
            _, row = held[device.serial]
            raise Conflict(
                f"{device.serial} is held by {row.user}; end reservation {row.id} first",
                serial=device.serial,
                reservation=row.id,
            )
        gone = work.farm.health(device.worker, work.at) is Health.GONE
        if not gone and _reported(work, device) is not DeviceState.ABSENT:
            raise Conflict(
                f"{device.serial} is there, at worker {device.worker}; unplug it first, or "
                "quarantine it",
                serial=device.serial,
            )
    serials = [device.serial for device in known]
    # Who held it stands in the history.
    work.session.execute(delete(HoldRow).where(col(HoldRow.serial).in_(serials)))
    for device in known:
        work.session.delete(device)
        work.unwant(device.worker, device.serial)
        work.clear_report(device.worker, device.serial)
        work.record(
            HistoryEvent.FORGOTTEN,
            actor=user,
            serial=device.serial,
            worker=device.worker,
            reason=args.reason,
        )
        work.note(f"{user} has {device.serial} forgotten", serial=device.serial)
    work.stir()
    return DevicesChanged(serials=serials)


def drain(work: Work, user: str, args: DrainArgs) -> WorkerChanged:
    """Let a worker finish its reservations and give it no new ones."""
    reason = args.reason or f"drained by {user}"
    return _drain(work, user, args.worker, HistoryEvent.DRAINED, args.reason, reason)


def undrain(work: Work, user: str, args: UndrainArgs) -> WorkerChanged:
    """Let a worker have reservations again."""
    return _drain(work, user, args.worker, HistoryEvent.UNDRAINED, args.reason, None)


OPERATIONS: Mapping[str, Operation] = {
    "end": Operation(EndReservationArgs, end, changes=True),
    "reboot": Operation(RebootArgs, reboot, changes=True),
    "reflash": Operation(ReflashArgs, reflash, changes=True),
    "quarantine": Operation(QuarantineArgs, quarantine, changes=True),
    "unquarantine": Operation(UnquarantineArgs, unquarantine, changes=True),
    "forget": Operation(ForgetArgs, forget, changes=True),
    "drain": Operation(DrainArgs, drain, changes=True),
    "undrain": Operation(UndrainArgs, undrain, changes=True),
}
"""By the name that stands in the topic; the broker lets only administrators write it."""


def _known(work: Work, serials: Collection[str]) -> Sequence[DeviceRow]:
    query = select(DeviceRow).where(col(DeviceRow.serial).in_(serials))
    found = work.session.exec(query.order_by(col(DeviceRow.serial))).all()
    unknown = sorted(set(serials) - {device.serial for device in found})
    if unknown:
        raise UnknownDevice(
            f"no device {', '.join(unknown)}; `icebus devices` lists those there are",
            serials=unknown,
        )
    return found


def _reported(work: Work, device: DeviceRow) -> DeviceState | None:
    report = work.farm.report(device.serial)
    return None if report is None else report.state


def _change(
    work: Work,
    user: str,
    serials: Collection[str],
    event: HistoryEvent,
    reason: str,
    **nonces: int,
) -> DevicesChanged:
    """Want something else of devices, whoever holds them."""
    _known(work, serials)
    held = holds_of(work, serials)
    work.session.flush()
    for device in next_generation(work, serials):
        _, reservation = held.get(device.serial, (None, None))
        for nonce, more in nonces.items():
            setattr(device, nonce, getattr(device, nonce) + more)
        work.want(device, reservation)
        work.record(
            event,
            reservation,
            actor=user,
            serial=device.serial,
            worker=device.worker,
            reason=reason,
        )
        work.note(f"{device.serial} {event} by {user}", serial=device.serial)
    work.stir()
    return DevicesChanged(serials=sorted(serials))


def _drain(
    work: Work, user: str, worker: str, event: HistoryEvent, reason: str, draining: str | None
) -> WorkerChanged:
    row = work.session.get(WorkerRow, worker)
    if row is None:
        _check_worker(work, worker)
        row = WorkerRow(name=worker)
        work.session.add(row)
    if row.draining != draining:
        row.draining = draining
        work.record(event, actor=user, worker=worker, reason=reason)
        work.note(f"worker {worker} {event} by {user}", worker=worker)
        work.stir()
    work.drain(worker, draining)
    query = (
        select(HoldRow.reservation)
        .where(HoldRow.worker == worker, col(HoldRow.state).in_(LIVE_HOLDS))
        .distinct()
    )
    return WorkerChanged(worker=worker, reservations=sorted(work.session.exec(query)))


def _check_worker(work: Work, worker: str) -> None:
    """Refuse a worker nobody ever heard of: its name is misspelt."""
    known = {each.name for each in work.farm.workers() if each.state is not None}
    known.update(work.session.exec(select(DeviceRow.worker).distinct()))
    if worker not in known:
        listing = ", ".join(sorted(known)) or "none"
        raise InvalidRequest(f"no worker {worker} was ever here; known: {listing}", worker=worker)
