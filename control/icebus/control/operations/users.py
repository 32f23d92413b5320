"""The operations that users may request of control."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from sqlalchemy import func
from sqlmodel import col, select

from icebus.control.decide.lifecycle import LIVE_HOLDS, LIVE_RESERVATIONS
from icebus.control.decide.scheduler import Wanted, fitting
from icebus.control.operations import queue as waiting
from icebus.control.operations.candidates import accepting, candidates, draining, offering, standing
from icebus.control.operations.reservations import (
    activate,
    enqueue,
    finish,
    next_generation,
    release,
    warning,
)
from icebus.control.store.history import history
from icebus.control.store.tables import DeviceRow, HoldRow, RequestRow, ReservationRow
from icebus.control.store.transaction import Work
from icebus.schemas.errors import (
    DeviceNotHeld,
    Forbidden,
    InvalidRequest,
    LimitExceeded,
    ReservationEnded,
    ReservationQueued,
    UnknownDevice,
    UnknownReservation,
)
from icebus.schemas.history import HistoryArgs, HistoryEvent
from icebus.schemas.ids import new_id
from icebus.schemas.liveness import Health
from icebus.schemas.reservations import (
    AttachArgs,
    AvailableArgs,
    AvailableReply,
    DevicesArgs,
    DevicesReply,
    EndArgs,
    EndReason,
    ExtendArgs,
    ExtendReply,
    HoldState,
    KnownDevice,
    ListArgs,
    ReservationReply,
    ReservationsReply,
    ReservationState,
    ReserveArgs,
    TransferArgs,
    Transferred,
    WithdrawArgs,
    WithdrawReply,
)
from icebus.schemas.selectors import labels_of, parse
from icebus.schemas.wording import counted

WITHDRAWN: Mapping[str, Any] = {"operation": "reserve", "digest": "withdrawn", "reply": {}}
"""What is remembered of a request that was withdrawn before it came: it is taken for another one,
and so refused."""

LONGEST_WAIT = 30 * 86_400.0
"""Seconds that anybody stands in the queue, however patient."""


def reserve(work: Work, user: str, args: ReserveArgs) -> ReservationReply:
    """Give devices to a user: all that are asked for, or none; now, or when they are free."""
    longest = work.settings.max_duration
    if args.duration > longest:
        raise InvalidRequest(
            f"{args.duration:.0f} s is longer than the {longest:.0f} s that a reservation may last "
            "here; reserve for less and extend it",
            max_duration=longest,
        )
    parse(args.selector or "")
    accepting(offering(work, args.kind), args.args)
    _check_known(work, args.serials or ())
    _check_limits(work, user, args)
    row = ReservationRow(
        id=new_id(),
        user=user,
        kind=args.kind,
        args=args.args,
        state=ReservationState.QUEUED,
        created=work.now,
        until=work.now + timedelta(seconds=min(args.wait, LONGEST_WAIT)),
        count=args.count,
        serials=args.serials,
        selector=args.selector,
        duration=args.duration,
        priority=args.priority,
        replace=args.replace,
    )
    _attach(work, row, args.client)
    place = waiting.serve(work, row).places.get(row.id)
    if place is not None:
        if not args.wait:
            raise place.refusal
        waiting.stand(work, row, place)
        enqueue(work, row)
    return ReservationReply(reservation=work.document(row))


def withdraw(work: Work, user: str, args: WithdrawArgs) -> WithdrawReply:
    """Undo a request to reserve whose answer nobody got; one that never came is refused if it does.

    Whoever has no answer can't know whether there is a reservation of his.
    """
    asked = work.session.get(RequestRow, (user, args.request))
    if asked is None:
        work.session.add(RequestRow(user=user, id=args.request, **WITHDRAWN, at=work.now))
        return WithdrawReply(reservation=None)
    if asked.operation != "reserve":
        raise InvalidRequest(f"request {args.request} is no `reserve`, so it can't be withdrawn")
    made = asked.reply.get("reservation")
    row = None if made is None else work.session.get(ReservationRow, made["id"])
    if row is None or row.user != user or row.state is ReservationState.ENDED:
        return WithdrawReply(reservation=None)
    holds = finish(work, row, EndReason.RELEASED, actor=user)
    return WithdrawReply(reservation=work.document(row, holds))


def extend(work: Work, user: str, args: ExtendArgs) -> ExtendReply:
    """Move the end of a reservation, as far as allowed and never nearer."""
    row = _of(work, user, args.reservation)
    _refuse_queued(row)
    before = row.until
    longest = work.settings.max_duration
    # Bounded first: the sum of a date and a huge number of seconds is not a date.
    asked = before + timedelta(seconds=min(args.duration, longest))
    after = max(before, min(asked, work.now + timedelta(seconds=longest)))
    if after > before:
        row.until, row.warn_at = after, warning(work.now, after)
        work.change(row)
        work.stir()
        until = after.isoformat(timespec="seconds")
        work.record(HistoryEvent.EXTENDED, row, actor=user, reason=f"until {until}")
        held = work.session.exec(
            select(DeviceRow)
            .join(HoldRow, col(HoldRow.serial) == col(DeviceRow.serial))
            .where(HoldRow.reservation == row.id, col(HoldRow.state).in_(LIVE_HOLDS))
        )
        for device in held:
            work.want(device, row)
    return ExtendReply(reservation=work.document(row), before=before, after=after)


def end(work: Work, user: str, args: EndArgs) -> ReservationReply:
    """Release devices of a reservation; without the last one it is over."""
    row = _of(work, user, args.reservation)
    if args.serials is not None:
        _refuse_queued(row)
        live = {hold.serial: hold for hold in _live_holds(work, row)}
        missing = sorted(set(args.serials) - live.keys())
        if missing:
            raise DeviceNotHeld(
                f"reservation {row.id} does not hold {', '.join(missing)}", serials=missing
            )
        if live.keys() > set(args.serials):
            released = [live[serial] for serial in sorted(set(args.serials))]
            release(work, row, released, EndReason.RELEASED.value, actor=user)
            activate(work, [row])
            return ReservationReply(reservation=work.document(row))
    holds = finish(work, row, EndReason.RELEASED, actor=user)
    return ReservationReply(reservation=work.document(row, holds))


def transfer(work: Work, user: str, args: TransferArgs) -> ReservationReply:
    """Give a reservation to another user, whose it is alone from then on."""
    row = _of(work, user, args.reservation)
    if args.user == user:
        raise InvalidRequest(f"reservation {row.id} is {user}'s already")
    holds = _live_holds(work, row)
    _check_room(work, args.user, len(holds))
    work.tell(row, "transferred", Transferred(reservation=row.id, user=args.user))
    row.user, row.client, row.orphaned_since = args.user, None, None
    work.record(HistoryEvent.TRANSFERRED, row, actor=user, reason=f"from {user}")
    work.note(f"{user} transfers a reservation to {args.user}", reservation=row.id)
    for hold in holds:
        # Its worker begins anew for another user, who is told as if it had just been given.
        if hold.state is HoldState.SERVING:
            hold.state = HoldState.PREPARING
    for device in next_generation(work, [hold.serial for hold in holds]):
        work.want(device, row)
    work.change(row)
    work.stir()
    return ReservationReply(reservation=work.document(row))


def attach(work: Work, user: str, args: AttachArgs) -> ReservationReply:
    """Make a reservation depend on another client's presence, or on nobody's."""
    row = _of(work, user, args.reservation)
    _attach(work, row, args.client)
    work.change(row)
    whom = f"to {args.client}" if args.client is not None else "detached"
    work.record(HistoryEvent.ATTACHED, row, actor=user, reason=whom)
    return ReservationReply(reservation=work.document(row))


def list_reservations(work: Work, _user: str, args: ListArgs) -> ReservationsReply:
    """All reservations that have not ended, oldest first."""
    query = select(ReservationRow).where(col(ReservationRow.state).in_(LIVE_RESERVATIONS))
    if args.user is not None:
        query = query.where(ReservationRow.user == args.user)
    rows = work.session.exec(query.order_by(col(ReservationRow.created), col(ReservationRow.id)))
    return ReservationsReply(reservations=work.documents(rows))


def devices(work: Work, _user: str, _args: DevicesArgs) -> DevicesReply:
    """All devices that control knows."""
    drained = draining(work)
    found = []
    for each in standing(work):
        report, owner = work.farm.report(each.serial), work.farm.owner(each.serial)
        if report is None or owner is None:
            continue
        found.append(
            KnownDevice(
                worker=owner,
                report=report,
                fresh=work.farm.health(owner, work.at) is Health.READY,
                reservation=each.reservation,
                user=each.user,
                labels=labels_of(owner, report),
                quarantined=each.quarantined,
                draining=drained.get(owner),
            )
        )
    return DevicesReply(devices=found)


def available(work: Work, _user: str, args: AvailableArgs) -> AvailableReply:
    """The devices that a reservation of a kind could have now."""
    firmware = {name: kind.firmware for name, kind in offering(work, args.kind).items()}
    wanted = Wanted(args.kind, firmware, count=1, selector=parse(args.selector or ""))
    kept = waiting.look(work).kept
    serials = [each for each in fitting(candidates(work), wanted) if each not in kept]
    return AvailableReply(kind=args.kind, available=len(serials), serials=serials)


@dataclass(frozen=True)
class Operation:
    """An operation: what it takes, what it does, and whether that changes anything."""

    args: type[BaseModel]
    run: Callable[[Work, str, Any], BaseModel]
    changes: bool = False


OPERATIONS: Mapping[str, Operation] = {
    "reserve": Operation(ReserveArgs, reserve, changes=True),
    "withdraw": Operation(WithdrawArgs, withdraw, changes=True),
    "extend": Operation(ExtendArgs, extend, changes=True),
    "end": Operation(EndArgs, end, changes=True),
    "transfer": Operation(TransferArgs, transfer, changes=True),
    "attach": Operation(AttachArgs, attach, changes=True),
    "list": Operation(ListArgs, list_reservations),
    "devices": Operation(DevicesArgs, devices),
    "available": Operation(AvailableArgs, available),
    "history": Operation(HistoryArgs, history),
}
"""By the name that stands in the topic."""


def find_live(work: Work, name: str) -> ReservationRow:
    """The reservation of that id, which is not over.

    Raises:
        UnknownReservation: there is none.
        ReservationEnded: it is over.
    """
    row = work.session.get(ReservationRow, name)
    if row is None:
        raise UnknownReservation(f"there is no reservation {name}", reservation=name)
    if row.state is ReservationState.ENDED:
        reason = row.reason.value if row.reason is not None else ""
        raise ReservationEnded(
            f"reservation {name} is over ({reason.replace('_', ' ')}); `icebus reserve` makes a "
            "new one",
            reservation=name,
            reason=reason,
        )
    return row


def _of(work: Work, user: str, name: str) -> ReservationRow:
    """The live reservation of that id, if it is this user's."""
    row = work.session.get(ReservationRow, name)
    if row is not None and row.user != user:
        raise Forbidden(f"reservation {name} is {row.user}'s", reservation=name, user=row.user)
    return find_live(work, name)


def _refuse_queued(row: ReservationRow) -> None:
    if row.state is ReservationState.QUEUED:
        raise ReservationQueued(
            f"reservation {row.id} has no devices yet, it waits: {row.waits_for}; "
            "end it to stop waiting",
            reservation=row.id,
            position=row.position,
        )


def _attach(work: Work, row: ReservationRow, client: str | None) -> None:
    there = client is None or work.clients.online(row.user, client)
    row.client = client
    row.orphaned_since = None if there else work.now
    work.rescheduled = True


def _live_holds(work: Work, row: ReservationRow) -> Sequence[HoldRow]:
    query = select(HoldRow).where(HoldRow.reservation == row.id, col(HoldRow.state).in_(LIVE_HOLDS))
    return work.session.exec(query).all()


def _check_known(work: Work, serials: Collection[str]) -> None:
    if not serials:
        return
    query = select(DeviceRow.serial).where(col(DeviceRow.serial).in_(serials))
    known = set(work.session.exec(query))
    unknown = sorted(set(serials) - known)
    if unknown:
        raise UnknownDevice(
            f"no device {', '.join(unknown)}; `icebus devices` lists those there are",
            serials=unknown,
        )


def _check_limits(work: Work, user: str, args: ReserveArgs) -> None:
    """Refuse what this user could not have, however long he waits."""
    limit = work.settings.limits.of(user)
    if args.priority > limit.priority:
        raise LimitExceeded(
            f"{user} may ask with priority {limit.priority} at most, not {args.priority}",
            limit=limit.priority,
            wanted=args.priority,
        )
    number = len(args.serials) if args.serials is not None else args.count or 0
    if limit.devices is not None and number > limit.devices:
        raise LimitExceeded(
            f"{user} wants {counted(number, 'device')}, but may hold {limit.devices}",
            limit=limit.devices,
            wanted=number,
        )
    _check_room(work, user, 0)


def _check_room(work: Work, user: str, devices_more: int) -> None:
    """Refuse one more reservation, with so many devices, to whoever has enough."""
    limit = work.settings.limits.of(user)
    reservations = work.session.exec(
        select(func.count())
        .select_from(ReservationRow)
        .where(ReservationRow.user == user, col(ReservationRow.state).in_(LIVE_RESERVATIONS))
    ).one()
    if reservations >= limit.reservations:
        raise LimitExceeded(
            f"{user} has {counted(reservations, 'reservation')} of {limit.reservations} allowed; "
            "release one first",
            limit=limit.reservations,
            wanted=reservations + 1,
        )
    if limit.devices is None or not devices_more:
        return
    held = waiting.held(work, [user]).get(user, 0)
    if held + devices_more > limit.devices:
        raise LimitExceeded(
            f"{user} holds {counted(held, 'device')} and may hold {limit.devices}, "
            f"so {devices_more} more would be too many",
            limit=limit.devices,
            wanted=held + devices_more,
        )
