"""What the scheduler is given: the devices as they stand, and who offers what is asked for."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import col, select

from icebus.control.decide.lifecycle import LIVE_HOLDS
from icebus.control.decide.scheduler import Candidate, Obstacle, Wanted, best
from icebus.control.store.tables import DeviceRow, HoldRow, ReservationRow, WorkerRow
from icebus.control.store.transaction import Work
from icebus.control.watch.kinds import Kind
from icebus.schemas.components import WorkerPhase
from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.errors import InvalidRequest, UnknownKind
from icebus.schemas.liveness import Health
from icebus.schemas.selectors import labels_of


@dataclass(frozen=True)
class Standing:
    """A device of the database, with the live reservation that holds it."""

    serial: str
    generation: int
    quarantined: str | None
    reservation: str | None
    user: str | None
    until: datetime | None


def standing(work: Work, serials: Collection[str] = ()) -> list[Standing]:
    """How devices stand; all of them unless some are named."""
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
    return [Standing(*row) for row in work.session.execute(query)]


def draining(work: Work) -> dict[str, str]:
    """The workers that administrators drain, and why."""
    query = select(WorkerRow).where(col(WorkerRow.draining).is_not(None))
    return {row.name: row.draining or "" for row in work.session.exec(query)}


def candidates(work: Work, serials: Collection[str] = ()) -> list[Candidate]:
    """The devices for the scheduler; all of them unless some are named."""
    drained = draining(work)
    found = []
    for each in standing(work, serials):
        report, owner = work.farm.report(each.serial), work.farm.owner(each.serial)
        if report is None or owner is None:
            continue
        obstacle, why = _obstacle(work, each, owner, report, drained)
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
    work: Work, each: Standing, owner: str, report: DeviceReport, drained: Mapping[str, str]
) -> tuple[Obstacle | None, str]:
    """Why a device can't be had. What lasts goes before what passes by itself."""
    if each.quarantined is not None:
        return Obstacle.QUARANTINED, f"quarantined: {each.quarantined}"
    if owner in drained:
        return Obstacle.DRAINING, f"not offered: worker {owner} drains ({drained[owner]})"
    health = work.farm.health(owner, work.at)
    if health is Health.GONE:
        return Obstacle.STALE, f"out of reach: {work.farm.why_gone(owner)}"
    state = work.farm.worker(owner).state
    if health is Health.UNSCHEDULABLE and state is not None and state.state is WorkerPhase.DRAINING:
        return Obstacle.DRAINING, f"not offered: worker {owner} drains"
    explained = f"{report.state}{f': {report.reason}' if report.reason else ''}"
    if report.state is DeviceState.BROKEN:
        return Obstacle.BROKEN, explained
    if report.state is DeviceState.QUARANTINED:
        return Obstacle.QUARANTINED, explained
    if each.reservation is not None:
        return Obstacle.HELD, f"held by {each.user}"
    if report.state is DeviceState.ABSENT:
        return Obstacle.ABSENT, explained
    if health is Health.UNKNOWN:
        return Obstacle.BUSY, f"out of reach: worker {owner} has not answered yet"
    if health is Health.UNSCHEDULABLE:
        return Obstacle.BUSY, f"not ready yet: worker {owner} is starting"
    ready = (
        report.state is DeviceState.READY
        and report.reservation is None
        and report.generation == each.generation
        and work.farm.worker(owner).current(report.serial) is not None
    )
    return (None, "") if ready else (Obstacle.BUSY, f"not ready yet: {explained}")


def shortlist(work: Work, wanted: Wanted) -> list[str]:
    """The devices that the scheduler would choose for a request if reports were all there is.

    Far fewer than all devices; whether they can be had is for the database to say.
    """
    fitting = (
        (wanted.cold(worker, report.firmware), report.serial, worker)
        for worker, report in work.farm.ready(work.at)
        if worker in wanted.firmware
        and (not wanted.selector.requirements or wanted.selector.matches(labels_of(worker, report)))
    )
    return best(fitting, wanted.number)


class Offers:
    """Who offers which kind with which arguments, looked up once for requests that are alike."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._known: dict[tuple[str, str], dict[str, str]] = {}

    def firmware(self, kind: str, args: Mapping[str, Any]) -> dict[str, str]:
        """The firmware that a request needs, by the workers that would take it; maybe none."""
        key = (kind, json.dumps(args, sort_keys=True))
        if key not in self._known:
            try:
                self._known[key] = accepting(offering(self._work, kind), args)
            except (UnknownKind, InvalidRequest):
                self._known[key] = {}
        return self._known[key]


def offering(work: Work, kind: str) -> dict[str, Kind]:
    """The workers that offer a kind, each with its own version of it.

    Raises:
        UnknownKind: there are none.
    """
    offers = {w.name: w.kinds[kind] for w in work.farm.workers() if kind in w.kinds}
    if not offers:
        known = sorted({name for worker in work.farm.workers() for name in worker.kinds})
        listing = f"they offer {', '.join(known)}" if known else "none of them offers any"
        raise UnknownKind(f"no worker offers kind {kind}; {listing}", kind=kind, known=known)
    return offers


def accepting(offers: Mapping[str, Kind], args: Mapping[str, Any]) -> dict[str, str]:
    """The firmware that is needed, by those of the workers that take these arguments.

    Raises:
        InvalidRequest: none of them does.
    """
    found: dict[str, str] = {}
    # Nearly always all workers have the same schema, and to follow it takes its time.
    refusals: dict[str, InvalidRequest | None] = {}
    for worker, kind in sorted(offers.items()):
        if kind.schema not in refusals:
            refusals[kind.schema] = _refusal(kind, args)
        if refusals[kind.schema] is None:
            found[worker] = kind.firmware
    refused = next((each for each in refusals.values() if each is not None), None)
    if refused is not None and not found:
        raise refused
    return found


def _refusal(kind: Kind, args: Mapping[str, Any]) -> InvalidRequest | None:
    try:
        kind.check(args)
    except InvalidRequest as refusal:
        return refusal
    return None
