"""The operations that users may request of control."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from pydantic import BaseModel
from sqlmodel import col, select

from icebus.control.farm import Health
from icebus.control.kinds import Kind
from icebus.control.lifecycle import LIVE_HOLDS, LIVE_RESERVATIONS
from icebus.control.reservations import begin, finish, warning
from icebus.control.scheduler import Candidate, Obstacle, Wanted, allocate
from icebus.control.tables import DeviceRow, HoldRow, ReservationRow
from icebus.control.work import Work
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.errors import (
    Forbidden,
    InvalidRequest,
    ReservationEnded,
    UnknownKind,
    UnknownReservation,
)
from icebus.schemas.ids import new_id
from icebus.schemas.reservations import (
    AvailableArgs,
    AvailableReply,
    DevicesArgs,
    DevicesReply,
    EndArgs,
    EndReason,
    ExtendArgs,
    ExtendReply,
    KnownDevice,
    ListArgs,
    ReservationReply,
    ReservationsReply,
    ReservationState,
    ReserveArgs,
)


def reserve(work: Work, user: str, args: ReserveArgs) -> ReservationReply:
    """Give devices to a user: all that are asked for, or none."""
    longest = work.settings.max_duration
    if args.duration > longest:
        raise InvalidRequest(
            f"{args.duration:g} s is longer than the {longest:g} s a reservation may last here; "
            "reserve for less and extend it",
            max_duration=longest,
        )
    accepting = _accepting(_offers(work, args.kind), args.args)
    serials = tuple(args.serials or ())
    wanted = Wanted(kind=args.kind, count=args.count, serials=serials)
    chosen = allocate(_candidates(work, args.kind, accepting, serials), wanted)
    until = work.now + timedelta(seconds=args.duration)
    attached = args.client is not None
    there = attached and work.clients.online(user, args.client or "")
    row = ReservationRow(
        id=new_id(),
        user=user,
        kind=args.kind,
        args=args.args,
        state=ReservationState.PREPARING,
        created=work.now,
        until=until,
        warn_at=warning(work.now, until),
        client=args.client,
        orphaned_since=work.now if attached and not there else None,
    )
    holds = begin(work, row, [each.serial for each in chosen])
    return ReservationReply(reservation=work.document(row, holds))


def extend(work: Work, user: str, args: ExtendArgs) -> ExtendReply:
    """Move the end of a reservation, as far as allowed and never nearer."""
    row = _held(work, user, args.reservation)
    before = row.until
    longest = work.settings.max_duration
    # Bounded first: the sum of a date and a huge number of seconds is not a date.
    asked = before + timedelta(seconds=min(args.duration, longest))
    after = max(before, min(asked, work.now + timedelta(seconds=longest)))
    if after > before:
        row.until, row.warn_at = after, warning(work.now, after)
        work.change(row)
        held = work.session.exec(
            select(DeviceRow)
            .join(HoldRow, col(HoldRow.serial) == col(DeviceRow.serial))
            .where(HoldRow.reservation == row.id, col(HoldRow.state).in_(LIVE_HOLDS))
        )
        for device in held:
            work.want(device, row)
    return ExtendReply(reservation=work.document(row), before=before, after=after)


def end(work: Work, user: str, args: EndArgs) -> ReservationReply:
    """Release all devices of a reservation."""
    row = _held(work, user, args.reservation)
    holds = finish(work, row, EndReason.RELEASED)
    return ReservationReply(reservation=work.document(row, holds))


def list_reservations(work: Work, _user: str, args: ListArgs) -> ReservationsReply:
    """All reservations that have not ended, oldest first."""
    query = select(ReservationRow).where(col(ReservationRow.state).in_(LIVE_RESERVATIONS))
    if args.user is not None:
        query = query.where(ReservationRow.user == args.user)
    rows = work.session.exec(query.order_by(col(ReservationRow.created), col(ReservationRow.id)))
    return ReservationsReply(reservations=work.documents(rows))


def devices(work: Work, _user: str, _args: DevicesArgs) -> DevicesReply:
    """All devices that control knows."""
    holders = {
        serial: (reservation, user) for serial, reservation, user, _, _ in _standing(work) if user
    }
    found = []
    for serial in sorted(work.farm.serials()):
        report, owner = work.farm.report(serial), work.farm.owner(serial)
        if report is None or owner is None:
            continue
        reservation, user = holders.get(serial, (None, None))
        found.append(
            KnownDevice(
                worker=owner,
                report=report,
                fresh=work.farm.health(owner, work.at) is Health.FRESH,
                reservation=reservation,
                user=user,
            )
        )
    return DevicesReply(devices=found)


def available(work: Work, _user: str, args: AvailableArgs) -> AvailableReply:
    """The devices that a reservation of a kind could have now."""
    candidates = _candidates(work, args.kind, _offers(work, args.kind))
    serials = sorted(each.serial for each in candidates if each.obstacle is None)
    return AvailableReply(kind=args.kind, available=len(serials), serials=serials)


@dataclass(frozen=True)
class Operation:
    """An operation: what it takes, what it does, and whether that changes anything."""

    args: type[BaseModel]
    run: Callable[[Work, str, Any], BaseModel]
    changes: bool = False


OPERATIONS: Mapping[str, Operation] = {
    "reserve": Operation(ReserveArgs, reserve, changes=True),
    "extend": Operation(ExtendArgs, extend, changes=True),
    "end": Operation(EndArgs, end, changes=True),
    "list": Operation(ListArgs, list_reservations),
    "devices": Operation(DevicesArgs, devices),
    "available": Operation(AvailableArgs, available),
}
"""By the name that stands in the topic."""


def _held(work: Work, user: str, name: str) -> ReservationRow:
    """The live reservation of that id, if it is this user's."""
    row = work.session.get(ReservationRow, name)
    if row is None:
        raise UnknownReservation(f"there is no reservation {name}", reservation=name)
    if row.user != user:
        raise Forbidden(f"reservation {name} is {row.user}'s", reservation=name, user=row.user)
    if row.state is ReservationState.ENDED:
        reason = row.reason.value if row.reason is not None else ""
        raise ReservationEnded(
            f"reservation {name} is over ({reason}); make a new one",
            reservation=name,
            reason=reason,
        )
    return row


def _offers(work: Work, kind: str) -> dict[str, Kind]:
    """The workers that offer a kind, each with its own version of it."""
    offers = {w.name: w.kinds[kind] for w in work.farm.workers() if kind in w.kinds}
    if not offers:
        known = sorted({name for worker in work.farm.workers() for name in worker.kinds})
        listing = f"they offer {', '.join(known)}" if known else "none of them offers any"
        raise UnknownKind(f"no worker offers kind {kind}; {listing}", kind=kind, known=known)
    return offers


def _accepting(offers: Mapping[str, Kind], args: Mapping[str, Any]) -> dict[str, Kind]:
    """Those of the workers that take these arguments; at least one must."""
    accepting: dict[str, Kind] = {}
    refusals: list[InvalidRequest] = []
    for worker, kind in sorted(offers.items()):
        try:
            kind.check(args)
            accepting[worker] = kind
        except InvalidRequest as refusal:
            refusals.append(refusal)
    if not accepting:
        raise refusals[0]
    return accepting


_Standing = tuple[str, str | None, str | None, datetime | None, int]


def _standing(work: Work, serials: Collection[str] = ()) -> list[_Standing]:
    """Per device: serial, live reservation, its user and end, and the desired generation."""
    query = (
        select(
            DeviceRow.serial,
            ReservationRow.id,
            ReservationRow.user,
            ReservationRow.until,
        )
        .add_columns(col(DeviceRow.generation))
        .outerjoin(
            HoldRow,
            (col(HoldRow.serial) == col(DeviceRow.serial)) & col(HoldRow.state).in_(LIVE_HOLDS),
        )
        .outerjoin(ReservationRow, col(ReservationRow.id) == col(HoldRow.reservation))
    )
    if serials:
        query = query.where(col(DeviceRow.serial).in_(serials))
    return [cast(_Standing, tuple(row)) for row in work.session.execute(query)]


def _candidates(
    work: Work, kind: str, accepting: Mapping[str, Kind], serials: Collection[str] = ()
) -> list[Candidate]:
    candidates = []
    for serial, _reservation, user, until, generation in _standing(work, serials):
        report, owner = work.farm.report(serial), work.farm.owner(serial)
        if report is None or owner is None:
            continue
        offer = accepting.get(owner)
        obstacle: Obstacle | None
        if user is not None and until is not None:
            end_of_it = until.isoformat(timespec="seconds")
            obstacle, why = Obstacle.HELD, f"held by {user} until {end_of_it}"
        else:
            obstacle, why = _obstacle(work, owner, report, generation)
        if obstacle is None and offer is None:
            obstacle, why = Obstacle.OTHER_KIND, f"at worker {owner}, which has no such {kind}"
        warm = offer is not None and report.firmware == offer.firmware
        candidates.append(Candidate(serial, owner, warm, obstacle, why))
    return candidates


def _obstacle(
    work: Work, owner: str, report: DeviceReport, generation: int
) -> tuple[Obstacle | None, str]:
    """Why a device that nobody holds can't be had."""
    health = work.farm.health(owner, work.at)
    if health is Health.GONE:
        return Obstacle.STALE, f"out of reach: {work.farm.why_gone(owner)}"
    if health is Health.UNKNOWN:
        return Obstacle.STALE, f"out of reach: worker {owner} has not answered yet"
    if health is Health.CLOSED:
        return Obstacle.STALE, f"not offered: worker {owner} is starting or draining"
    explained = f"{report.state}{f': {report.reason}' if report.reason else ''}"
    match report.state:
        case DeviceState.ABSENT:
            return Obstacle.ABSENT, explained
        case DeviceState.BROKEN:
            return Obstacle.BROKEN, explained
        case DeviceState.QUARANTINED:
            return Obstacle.QUARANTINED, explained
    ready = (
        report.state is DeviceState.READY
        and report.reservation is None
        and report.generation == generation
        and work.farm.worker(owner).current(report.serial) is not None
    )
    return (None, "") if ready else (Obstacle.BUSY, f"not ready yet: {explained}")
