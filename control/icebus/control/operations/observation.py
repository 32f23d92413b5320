"""Bringing the database in line with what the bus shows: devices, their holds, their holders."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TypeVar

from sqlmodel import col, select

from icebus.control.decide.lifecycle import LIVE_HOLDS, LIVE_RESERVATIONS, advance_hold
from icebus.control.decide.reconciler import Seen, judge
from icebus.control.operations.reservations import activate, finish
from icebus.control.store.tables import DeviceRow, HoldRow, ReservationRow, WorkerRow
from icebus.control.store.transaction import Work
from icebus.schemas.components import Presence
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.history import HistoryEvent
from icebus.schemas.liveness import Health
from icebus.schemas.reservations import (
    DeviceFailedEvent,
    EndReason,
    HoldState,
    Initialized,
    ReservationState,
)

BATCH = 1000
"""Names in one query: databases limit its parameters, and nothing limits what a worker lists."""

REASON_LENGTH = 300
"""Characters of a worker's explanation that are passed on."""


def holds_of(work: Work, serials: Collection[str]) -> dict[str, tuple[HoldRow, ReservationRow]]:
    """The live holds of these devices, by serial."""
    query = (
        select(HoldRow, ReservationRow)
        .join(ReservationRow, col(ReservationRow.id) == col(HoldRow.reservation))
        .where(col(HoldRow.serial).in_(serials), col(HoldRow.state).in_(LIVE_HOLDS))
    )
    return {hold.serial: (hold, reservation) for hold, reservation in work.session.exec(query)}


def observe(work: Work, serials: Collection[str], announce: Collection[str]) -> None:
    """Record what the farm shows of these devices, and settle the holds they are in.

    What is desired is published of those in ``announce``, and where it has changed.
    """
    everything = {*serials, *announce}
    work.stir()
    for some in _batches(everything):
        _observe(work, some, announce)


def _observe(work: Work, everything: list[str], announce: Collection[str]) -> None:
    query = select(DeviceRow).where(col(DeviceRow.serial).in_(everything))
    devices = {device.serial: device for device in work.session.exec(query)}
    held = holds_of(work, everything)
    hopeful: dict[str, ReservationRow] = {}
    for serial in everything:
        report, owner = work.farm.report(serial), work.farm.owner(serial)
        if report is None or owner is None:
            continue
        hold, reservation = held.get(serial, (None, None))
        device = devices.get(serial)
        if device is None:
            if report.state is DeviceState.ABSENT or _gone(work, owner):
                # Nobody knows it, and nobody has it: it was forgotten.
                continue
            device = DeviceRow(serial=serial, worker=owner, report={})
            work.session.add(device)
            changed = True
        else:
            changed = device.worker != owner
            if changed:
                _move(work, device, hold, reservation, owner)
        current = work.farm.worker(owner).current(serial) is not None
        changed |= current and _overtaken(device, report)
        recorded = report.model_dump(mode="json", exclude={"progress"})
        if device.report != recorded:
            device.report = recorded
        if changed or serial in announce:
            work.want(device, reservation)
        if hold is not None and reservation is not None:
            _settle(work, device, hold, reservation, report if current else None)
            if hold.state is HoldState.SERVING and reservation.state is ReservationState.PREPARING:
                hopeful[reservation.id] = reservation
    activate(work, hopeful.values())


def _gone(work: Work, worker: str) -> bool:
    return work.farm.health(worker, work.at) is Health.GONE


def _move(
    work: Work,
    device: DeviceRow,
    hold: HoldRow | None,
    reservation: ReservationRow | None,
    owner: str,
) -> None:
    """Follow a board that was plugged in at another worker."""
    work.note(f"{device.serial} moved from {device.worker} to {owner}", serial=device.serial)
    work.record(
        HistoryEvent.DEVICE_MOVED,
        reservation,
        serial=device.serial,
        worker=owner,
        reason=f"from {device.worker}",
    )
    work.unwant(device.worker, device.serial)
    device.worker = owner
    if hold is not None and reservation is not None:
        hold.worker = owner
        work.change(reservation)


def _overtaken(device: DeviceRow, report: DeviceReport) -> bool:
    """Get ahead of a worker that knows more of the past than our database, which was lost.

    It ignores lower generations, so it would never do again what we say.
    """
    if report.generation <= device.generation:
        return False
    device.generation = report.generation + 1
    return True


def _settle(
    work: Work,
    device: DeviceRow,
    hold: HoldRow,
    reservation: ReservationRow,
    current: DeviceReport | None,
) -> None:
    seen = Seen(
        report=current or work.farm.report(device.serial),
        current=current is not None,
        health=work.farm.health(device.worker, work.at),
        why_gone=work.farm.why_gone(device.worker),
    )
    verdict = judge(hold, device.generation, seen)
    # The one character that PostgreSQL's texts can't hold.
    reason = verdict.reason[:REASON_LENGTH].replace("\0", "")
    before = hold.state
    if (verdict.state, reason) == (before, hold.reason):
        return
    hold.reason = reason
    work.change(reservation)
    if verdict.state is before:
        return
    hold.state = advance_hold(before, verdict.state)
    work.note(
        f"{device.serial} is {hold.state}{f': {reason}' if reason else ''}",
        serial=device.serial,
        reservation=reservation.id,
    )
    if hold.state is HoldState.SERVING:
        data = Initialized(reservation=reservation.id, serial=device.serial)
        work.tell(reservation, "initialized", data, device.serial)
    elif hold.state is HoldState.FAILED:
        failed = DeviceFailedEvent(
            reservation=reservation.id, serial=device.serial, code=verdict.code, reason=reason
        )
        work.tell(reservation, "device_failed", failed, device.serial)
        work.record(
            HistoryEvent.DEVICE_FAILED,
            reservation,
            serial=device.serial,
            worker=device.worker,
            reason=reason,
        )


def announce_all(work: Work) -> None:
    """Publish every reservation that lives, and what is desired of every device and worker."""
    query = (
        select(DeviceRow, ReservationRow)
        .outerjoin(
            HoldRow,
            (col(HoldRow.serial) == col(DeviceRow.serial)) & col(HoldRow.state).in_(LIVE_HOLDS),
        )
        .outerjoin(ReservationRow, col(ReservationRow.id) == col(HoldRow.reservation))
    )
    for device, reservation in work.session.exec(query):
        work.want(device, reservation)
    for worker in work.session.exec(select(WorkerRow)):
        work.drain(worker.name, worker.draining)
    for reservation in work.session.exec(
        select(ReservationRow).where(col(ReservationRow.state).in_(LIVE_RESERVATIONS))
    ):
        work.change(reservation)


def restart_grace(work: Work) -> None:
    """Count the grace of absent clients from now: while we were away we could not see them."""
    work.rescheduled = True
    query = select(ReservationRow).where(
        col(ReservationRow.state).in_(LIVE_RESERVATIONS), col(ReservationRow.client).is_not(None)
    )
    for reservation in work.session.exec(query):
        there = work.clients.online(reservation.user, reservation.client or "")
        reservation.orphaned_since = None if there else work.now


def attend(work: Work, user: str, client: str, presence: Presence) -> None:
    """Follow a client's coming and going with the reservations attached to it."""
    work.rescheduled = True
    query = select(ReservationRow).where(
        col(ReservationRow.state).in_(LIVE_RESERVATIONS),
        ReservationRow.user == user,
        ReservationRow.client == client,
    )
    for reservation in work.session.exec(query):
        if presence is Presence.ONLINE:
            reservation.orphaned_since = None
        elif presence is Presence.OFFLINE:
            finish(work, reservation, EndReason.RELEASED, actor=user)
        elif reservation.orphaned_since is None:
            reservation.orphaned_since = work.now


def clear_documents(work: Work, names: Collection[str]) -> None:
    """Clear those retained documents whose reservations do not live.

    What ended gets its last document first: whoever was to say so may have died before.
    """
    for some in _batches(names):
        query = select(ReservationRow).where(col(ReservationRow.id).in_(some))
        known = {row.id: row for row in work.session.exec(query)}
        for name in some:
            row = known.get(name)
            if row is None:
                work.forget(name)
            elif row.state is ReservationState.ENDED:
                work.change(row)


def clear_desired(work: Work, pairs: Collection[tuple[str, str]]) -> None:
    """Clear what workers were told about devices that are not theirs."""
    for some in _batches(pairs):
        query = select(DeviceRow.worker, DeviceRow.serial).where(
            col(DeviceRow.serial).in_({serial for _, serial in some})
        )
        theirs = set(work.session.exec(query))
        for worker, serial in some:
            if (worker, serial) not in theirs:
                work.unwant(worker, serial)


T = TypeVar("T", str, tuple[str, str])


def _batches(names: Collection[T]) -> Iterator[list[T]]:
    """Names in an order and in portions that a query can take."""
    ordered = sorted(names)
    for start in range(0, len(ordered), BATCH):
        yield ordered[start : start + BATCH]
