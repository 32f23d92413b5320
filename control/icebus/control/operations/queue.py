"""The queue: looked at whenever something changed that those who wait may wait for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import timedelta

from sqlalchemy import and_, exists, func, or_
from sqlmodel import col, select

from icebus.control.decide.obstacles import Wanted
from icebus.control.decide.reconciler import BROKEN
from icebus.control.decide.scheduler import Place, Plan, QueuedRequest, plan
from icebus.control.operations import hours
from icebus.control.operations.candidates import candidates, shortlist
from icebus.control.operations.reservations import allocate, replace_device
from icebus.control.store.live import IS_HELD, IS_LIVE
from icebus.control.store.tables import HoldRow, ReservationRow
from icebus.control.transaction import Transaction
from icebus.control.watch.kinds import KindLookup
from icebus.schemas.devices import DeviceState
from icebus.schemas.errors import InvalidRequest, KindFailed, UnknownKind
from icebus.schemas.liveness import Health
from icebus.schemas.operations.reservations import HoldState, ReservationState
from icebus.schemas.selectors import parse

QUEUED = ReservationState.QUEUED

_Failed = tuple[HoldRow, ReservationRow]


def schedule(
    transaction: Transaction,
    newcomer: ReservationRow | None = None,
    kinds: KindLookup | None = None,
    give: Callable[[Transaction, ReservationRow, Collection[str]], None] = allocate,
    *,
    grows: bool = False,
) -> Plan:
    """Give to those who wait, and to failed devices' reservations, what can be had now.

    It goes on until nothing more can be had, for what one gets may change what others wait for: a
    user who is at the limit now holds nothing back for another request.

    Args:
        transaction: everything happens in it.
        newcomer: a reservation that is not in the database yet; it gets there if it gets devices.
        kinds: what workers offer, where that has been looked up.
        give: gives the newcomer its devices, after which it is queued no more.
        grows: whether they come to those of a reservation, for which the newcomer can't wait.

    Returns:
        How all stand who still wait.
    """
    kinds = kinds or transaction.workers.kinds()
    while True:
        queued, failed = _read_queue(transaction)
        rows = {row.id: row for row in queued}
        new = newcomer if newcomer is not None and newcomer.state is QUEUED else None
        if new is not None:
            rows[new.id] = new
        if not rows and not failed:
            return Plan((), {}, frozenset())
        if new is not None and len(rows) == 1 and not failed:
            found = _plan_single(transaction, kinds, new, grows=grows)
            if found.grants:
                give(transaction, new, found.grants[0].serials)
                return Plan(found.grants, {}, frozenset())
        else:
            growing = new.id if new is not None and grows else None
            found = _plan(transaction, kinds, rows.values(), failed.values(), growing)
        if not found.grants:
            break
        for grant in found.grants:
            if grant.request.replaces is not None:
                hold, row = failed[grant.request.id, grant.request.replaces]
                replace_device(transaction, row, hold, grant.serials[0])
            else:
                row = rows[grant.request.id]
                (give if row is new else allocate)(transaction, row, grant.serials)
    for name, place in found.places.items():
        if newcomer is None or name != newcomer.id:
            set_place(transaction, rows[name], place)
    return found


def preview(transaction: Transaction) -> Plan:
    """What the queue leads to now, without doing it."""
    queued, failed = _read_queue(transaction)
    return _plan(transaction, transaction.workers.kinds(), queued, failed.values())


def _plan_single(
    transaction: Transaction, kinds: KindLookup, newcomer: ReservationRow, *, grows: bool
) -> Plan:
    """What a request leads to where nobody else wants anything: few devices need be looked at."""
    request = _queued_request(transaction, newcomer, kinds, grows=grows)
    few = newcomer.serials or shortlist(transaction, request.wanted)
    if few:
        found = _plan_requests(transaction, [request], few)
        if found.grants or newcomer.serials:
            return found
    # Reports and database differ for a moment, or there are not enough: now all of them count.
    return _plan_requests(transaction, [request])


def _plan(
    transaction: Transaction,
    kinds: KindLookup,
    rows: Iterable[ReservationRow],
    failed: Iterable[_Failed],
    growing: str | None = None,
) -> Plan:
    requests = [_queued_request(transaction, row, kinds, grows=row.id == growing) for row in rows]
    requests += [_queued_request(transaction, row, kinds, hold.serial) for hold, row in failed]
    return _plan_requests(transaction, requests)


def _plan_requests(
    transaction: Transaction, requests: Sequence[QueuedRequest], serials: Collection[str] = ()
) -> Plan:
    held = count_held(transaction, {each.user for each in requests})
    return plan(
        candidates(transaction, serials),
        requests,
        transaction.now,
        held,
        transaction.settings.limits,
        lambda user, number: hours.refusal(transaction, user, number),
    )


def set_place(transaction: Transaction, row: ReservationRow, place: Place) -> None:
    """Write down where a reservation stands.

    It is published when more than the estimate changed, or when the published estimate has passed.
    """
    past = place.estimate is not None and place.estimate <= transaction.now
    # What can't be told is estimated as now, each time anew.
    row.estimate = None if past else place.estimate
    published = row.published_estimate
    passed = published is not None and published <= transaction.now
    if passed or (row.position, row.waits_for) != (place.position, place.reason):
        row.position, row.waits_for = place.position, place.reason
        row.published_estimate = row.estimate
        transaction.publish_document(row)


_WANTING = select(ReservationRow).where(
    IS_LIVE,
    or_(
        col(ReservationRow.state) == QUEUED,
        and_(
            col(ReservationRow.replace),
            exists().where(
                col(HoldRow.reservation) == col(ReservationRow.id),
                col(HoldRow.state) == HoldState.FAILED,
            ),
        ),
    ),
)
"""Those that wait, and those that want other devices for failed ones. Asked in each transaction,
nearly always in vain."""


def _read_queue(
    transaction: Transaction,
) -> tuple[list[ReservationRow], dict[tuple[str, str], _Failed]]:
    """Who waits, and the failed devices that are to be replaced.

    Those are the ones that will not be back by themselves.
    """
    rows = transaction.session.exec(_WANTING).all()
    queued = [row for row in rows if row.state is QUEUED]
    others = {row.id: row for row in rows if row.state is not QUEUED}
    if not others:
        return queued, {}
    query = select(HoldRow).where(
        col(HoldRow.reservation).in_(others), HoldRow.state == HoldState.FAILED
    )
    lost = [hold for hold in transaction.session.exec(query) if _is_lost(transaction, hold)]
    return queued, {
        (hold.reservation, hold.serial): (hold, others[hold.reservation]) for hold in lost
    }


def _is_lost(transaction: Transaction, hold: HoldRow) -> bool:
    if transaction.health(hold.worker) is Health.GONE:
        return transaction.workers.is_gone_for_good(hold.worker, transaction.monotonic)
    report = transaction.workers.report(hold.serial)
    # Otherwise its worker has just begun anew, and makes it ready again.
    return report is None or report.state in (*BROKEN, DeviceState.ABSENT)


def _queued_request(
    transaction: Transaction,
    row: ReservationRow,
    kinds: KindLookup,
    replaces: str | None = None,
    *,
    grows: bool = False,
) -> QueuedRequest:
    try:
        firmware = kinds.accepting(row.kind, row.args)
    except (UnknownKind, InvalidRequest, KindFailed):
        # Nobody takes it at the moment.
        firmware = {}
    selector = parse(row.selector or "")
    allowed = transaction.limit(row.user).selectors
    if replaces is not None:
        wanted = Wanted(row.kind, firmware, count=1, selector=selector, allowed=allowed)
    else:
        serials = tuple(row.serials or ())
        wanted = Wanted(row.kind, firmware, row.count, serials, selector, allowed, grows)
    return QueuedRequest(
        id=row.id,
        user=row.user,
        wanted=wanted,
        since=row.created,
        duration=timedelta(seconds=row.duration),
        priority=row.priority,
        replaces=replaces,
        groups=transaction.roster.groups(row.user),
    )


def count_held(transaction: Transaction, users: Collection[str]) -> dict[str, int]:
    """How many devices each of those users has who may not have any number."""
    limited = [user for user in users if transaction.limit(user).devices is not None]
    if not limited:
        return {}
    query = (
        select(ReservationRow.user, func.count())
        .join(HoldRow, col(HoldRow.reservation) == col(ReservationRow.id))
        .where(
            IS_LIVE,
            col(ReservationRow.user).in_(limited),
            IS_HELD,
        )
        .group_by(col(ReservationRow.user))
    )
    return dict(transaction.session.exec(query).all())
