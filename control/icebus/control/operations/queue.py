"""The queue at work: looked at whenever something changed that those who wait may wait for."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import timedelta

from sqlalchemy import and_, exists, func, or_
from sqlmodel import col, select

from icebus.control.decide.lifecycle import LIVE_HOLDS, LIVE_RESERVATIONS
from icebus.control.decide.reconciler import BROKEN
from icebus.control.decide.scheduler import Place, Plan, Waiting, Wanted, plan
from icebus.control.operations.candidates import Offers, candidates, shortlist
from icebus.control.operations.reservations import give, replace
from icebus.control.store.tables import HoldRow, ReservationRow
from icebus.control.store.transaction import Work
from icebus.schemas.devices import DeviceState
from icebus.schemas.liveness import Health
from icebus.schemas.reservations import HoldState, ReservationState
from icebus.schemas.selectors import parse

QUEUED = ReservationState.QUEUED

_Failed = tuple[HoldRow, ReservationRow]


def serve(work: Work, newcomer: ReservationRow | None = None) -> Plan:
    """Give to those who wait, and to failed devices' reservations, what can be had now.

    It goes on until nothing more can be had, for what one gets may change what others wait for: a
    user who is at the limit now keeps nothing for another request.

    Args:
        work: the transaction.
        newcomer: a reservation that is not in the database yet; it gets there if it gets devices.

    Returns:
        How all stand who still wait.
    """
    offers = Offers(work)
    while True:
        queued, failed = _wanting(work)
        rows = {row.id: row for row in queued}
        new = newcomer if newcomer is not None and newcomer.state is QUEUED else None
        if new is not None:
            rows[new.id] = new
        if not rows and not failed:
            return Plan((), {}, frozenset())
        if new is not None and len(rows) == 1 and not failed:
            found = _alone(work, offers, new)
            if found.grants:
                give(work, new, found.grants[0].serials)
                return Plan(found.grants, {}, frozenset())
        else:
            found = _plan(work, offers, rows.values(), failed.values())
        if not found.grants:
            break
        for grant in found.grants:
            if grant.waiting.replaces is not None:
                hold, row = failed[grant.waiting.id, grant.waiting.replaces]
                replace(work, row, hold, grant.serials[0])
            else:
                give(work, rows[grant.waiting.id], grant.serials)
    for name, place in found.places.items():
        if newcomer is None or name != newcomer.id:
            stand(work, rows[name], place)
    return found


def look(work: Work) -> Plan:
    """What the queue leads to now, without doing it."""
    queued, failed = _wanting(work)
    return _plan(work, Offers(work), queued, failed.values())


def _alone(work: Work, offers: Offers, newcomer: ReservationRow) -> Plan:
    """What a request leads to where nobody else wants anything: few devices need be looked at."""
    few = newcomer.serials or shortlist(work, _waiting(newcomer, offers).wanted)
    if few:
        found = _plan(work, offers, [newcomer], [], few)
        if found.grants or newcomer.serials:
            return found
    # Reports and database differ for a moment, or there are not enough: now all of them count.
    return _plan(work, offers, [newcomer], [])


def _plan(
    work: Work,
    offers: Offers,
    rows: Iterable[ReservationRow],
    failed: Iterable[_Failed],
    serials: Collection[str] = (),
) -> Plan:
    queue = [_waiting(row, offers) for row in rows]
    queue += [_waiting(row, offers, hold.serial) for hold, row in failed]
    has = held(work, {each.user for each in queue})
    return plan(candidates(work, serials), queue, work.now, has, work.settings.limits)


def stand(work: Work, row: ReservationRow, place: Place) -> None:
    """Write down where a reservation stands; published when more than the estimate changed."""
    if (row.position, row.waits_for) != (place.position, place.reason):
        row.position, row.waits_for = place.position, place.reason
        work.change(row)
    row.estimate = place.estimate


_WANTING = select(ReservationRow).where(
    or_(
        col(ReservationRow.state) == QUEUED,
        and_(
            col(ReservationRow.state).in_(LIVE_RESERVATIONS),
            col(ReservationRow.replace),
            exists().where(
                col(HoldRow.reservation) == col(ReservationRow.id),
                col(HoldRow.state) == HoldState.FAILED,
            ),
        ),
    )
)
"""Those that wait, and those that want other devices for failed ones. Asked in each transaction,
nearly always in vain."""


def _wanting(work: Work) -> tuple[list[ReservationRow], dict[tuple[str, str], _Failed]]:
    """Who waits, and the failed devices that are to be replaced.

    Those are the ones that will not be back by themselves.
    """
    rows = work.session.exec(_WANTING).all()
    queued = [row for row in rows if row.state is QUEUED]
    others = {row.id: row for row in rows if row.state is not QUEUED}
    if not others:
        return queued, {}
    query = select(HoldRow).where(
        col(HoldRow.reservation).in_(others), HoldRow.state == HoldState.FAILED
    )
    lost = [hold for hold in work.session.exec(query) if _lost(work, hold)]
    return queued, {
        (hold.reservation, hold.serial): (hold, others[hold.reservation]) for hold in lost
    }


def _lost(work: Work, hold: HoldRow) -> bool:
    if work.farm.health(hold.worker, work.at) is Health.GONE:
        return work.farm.given_up(hold.worker, work.at)
    report = work.farm.report(hold.serial)
    # Otherwise its worker has just begun anew, and makes it ready again.
    return report is None or report.state in (*BROKEN, DeviceState.ABSENT)


def _waiting(row: ReservationRow, offers: Offers, replaces: str | None = None) -> Waiting:
    firmware = offers.firmware(row.kind, row.args)
    selector = parse(row.selector or "")
    if replaces is not None:
        wanted = Wanted(row.kind, firmware, count=1, selector=selector)
    else:
        wanted = Wanted(row.kind, firmware, row.count, tuple(row.serials or ()), selector)
    return Waiting(
        id=row.id,
        user=row.user,
        wanted=wanted,
        since=row.created,
        duration=timedelta(seconds=row.duration),
        priority=row.priority,
        replaces=replaces,
    )


def held(work: Work, users: Collection[str]) -> dict[str, int]:
    """How many devices each of those users has who may not have any number."""
    limited = [user for user in users if work.settings.limits.of(user).devices is not None]
    if not limited:
        return {}
    query = (
        select(ReservationRow.user, func.count())
        .join(HoldRow, col(HoldRow.reservation) == col(ReservationRow.id))
        .where(
            col(ReservationRow.state).in_(LIVE_RESERVATIONS),
            col(ReservationRow.user).in_(limited),
            col(HoldRow.state).in_(LIVE_HOLDS),
        )
        .group_by(col(ReservationRow.user))
    )
    return dict(work.session.exec(query).all())
