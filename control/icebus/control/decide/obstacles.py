"""What keeps a request from a device, in words and as the error that refuses it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from icebus.schemas.devices import DeviceReport, DeviceState
from icebus.schemas.errors import DeviceUnavailable, LimitExceeded, NotEnoughDevices
from icebus.schemas.liveness import Health
from icebus.schemas.selectors import Selector
from icebus.schemas.wording import counted


class Obstacle(StrEnum):
    """Why a device can't be had now, in the words a refusal lists."""

    HELD = "held"
    BUSY = "not ready yet"
    HELD_BACK = "kept for those who wait before"
    BROKEN = "broken"
    QUARANTINED = "quarantined"
    ABSENT = "absent"
    STALE = "on workers that do not answer"
    DRAINING = "on workers that drain"
    OTHER_KIND = "without this kind"
    OTHER_LABELS = "with other labels"
    NOT_ALLOWED = "beyond this user's limits"


TEMPORARY = (Obstacle.HELD, Obstacle.BUSY, Obstacle.HELD_BACK)
"""What goes by itself, so that waiting for it makes sense."""

NAMED = 5
"""Devices that a refusal names, of those that a reservation has and of those in the way."""

LATER = "when they are free, or reserve them apart, which may wait in the queue"
"""Advice for who wants more devices in a reservation: those are given now or not at all."""


class Situation(NamedTuple):
    """All that counts for whether a device can be had.

    Attributes:
        report: what its worker says of it.
        owner: that worker.
        health: of the worker.
        why_gone: what became of the worker, for people, where it is gone.
        drains: whether the worker says that it takes no new reservations.
        draining: why an administrator drains the worker; None when nobody does.
        quarantined: why an administrator took the device out; None when nobody did.
        holder: the user whose reservation holds it.
        up_to_date: whether the present run of the worker has made of it what is desired.
    """

    report: DeviceReport
    owner: str
    health: Health
    why_gone: str = ""
    drains: bool = False
    draining: str | None = None
    quarantined: str | None = None
    holder: str | None = None
    up_to_date: bool = True


def find_obstacle(device: Situation) -> tuple[Obstacle | None, str]:
    """Why nobody can have a device now, also in words. What lasts goes before what passes."""
    report, owner, health = device.report, device.owner, device.health
    if device.quarantined is not None:
        return Obstacle.QUARANTINED, f"quarantined: {device.quarantined}"
    if device.draining is not None:
        return Obstacle.DRAINING, f"not offered: worker {owner} drains ({device.draining})"
    if health is Health.GONE:
        return Obstacle.STALE, f"out of reach: {device.why_gone}"
    if health is Health.UNSCHEDULABLE and device.drains:
        return Obstacle.DRAINING, f"not offered: worker {owner} drains"
    explained = f"{report.state}{f': {report.reason}' if report.reason else ''}"
    if report.state is DeviceState.BROKEN:
        return Obstacle.BROKEN, explained
    if report.state is DeviceState.QUARANTINED:
        return Obstacle.QUARANTINED, explained
    if device.holder is not None:
        return Obstacle.HELD, f"held by {device.holder}"
    if report.state is DeviceState.ABSENT:
        return Obstacle.ABSENT, explained
    if health is Health.UNKNOWN:
        return Obstacle.BUSY, f"out of reach: worker {owner} has not answered yet"
    if health is Health.UNSCHEDULABLE:
        return Obstacle.BUSY, f"not ready yet: worker {owner} is starting"
    rests = report.state is DeviceState.READY and report.reservation is None
    return (
        (None, "")
        if rests and device.up_to_date
        else (Obstacle.BUSY, f"not ready yet: {explained}")
    )


@dataclass(frozen=True)
class Candidate:
    """A device as the scheduler sees it.

    Attributes:
        serial: its name.
        worker: who owns it.
        firmware: what it runs.
        labels: what selectors ask for.
        obstacle: why nobody can have it; None when it is free.
        why: the obstacle in full, for people.
        holder: the user who holds it.
        free_at: when it is free unless its holder extends.
    """

    serial: str
    worker: str
    firmware: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    obstacle: Obstacle | None = None
    why: str = ""
    holder: str | None = None
    free_at: datetime | None = None


@dataclass(frozen=True)
class Wanted:
    """What a request asks for: that many devices, or exactly these.

    Attributes:
        kind: what they are to do.
        firmware: what may run for that, by the workers that offer the kind and take its arguments.
        count: how many; None when they are named.
        serials: which ones.
        selector: what labels they must have.
        allowed: labels that the user is limited to, one of these; none for no limit.
        grows: whether they come to a reservation's others, for which nobody stands in the queue.
    """

    kind: str
    firmware: Mapping[str, tuple[str, ...]]
    count: int | None = None
    serials: tuple[str, ...] = ()
    selector: Selector = field(default_factory=Selector)
    allowed: tuple[Selector, ...] = ()
    grows: bool = False

    @property
    def number(self) -> int:
        """How many devices."""
        return len(self.serials) if self.count is None else self.count

    def needs_flashing(self, worker: str, firmware: str) -> bool:
        """Whether a device at that worker, with that firmware, has to be flashed for it."""
        return firmware not in self.firmware[worker]

    def mismatch(self, candidate: Candidate) -> Obstacle | None:
        """Why this request could never use that device, free or not."""
        if self.count is None and candidate.serial not in self.serials:
            return Obstacle.OTHER_LABELS
        if candidate.worker not in self.firmware:
            return Obstacle.OTHER_KIND
        if not self.selector.matches(candidate.labels):
            return Obstacle.OTHER_LABELS
        if self.allowed and not any(each.matches(candidate.labels) for each in self.allowed):
            return Obstacle.NOT_ALLOWED
        return None


Refused = tuple[str, Candidate | None, Obstacle | None]
"""A device that was named and can't be had: its serial, what is known of it, and why."""


def missing_named(wanted: Wanted, refused: Iterable[Refused]) -> tuple[str, DeviceUnavailable]:
    """What a request for named devices waits for, and the same as an error with the remedy."""
    devices = list(refused)
    explained = {
        serial: _explain(candidate, obstacle, wanted) for serial, candidate, obstacle in devices
    }
    holders = {serial: candidate.holder for serial, candidate, _ in devices if candidate}
    reason = "; ".join(
        f"{serial} is {f'held by {holders[serial]}' if holders.get(serial) else why}"
        for serial, why in explained.items()
    )
    temporary = any(obstacle in TEMPORARY for *_, obstacle in devices)
    remedy = f"grow again {LATER}" if wanted.grows else "wait for them in the queue"
    return reason, DeviceUnavailable(
        "; ".join(f"{serial} is {why}" for serial, why in explained.items())
        + (f"; {remedy}" if temporary else ""),
        serials=explained,
        soon=all(obstacle is Obstacle.BUSY for *_, obstacle in devices),
        temporary=temporary,
    )


def missing_count(
    wanted: Wanted, obstacles: Counter[Obstacle | None]
) -> tuple[str, NotEnoughDevices]:
    """What a request for so many devices waits for, and the same as an error with the remedy.

    Args:
        wanted: the request.
        obstacles: how many devices each of them keeps away; None counts those that are free.
    """
    available = obstacles[None]
    lasting = [
        f"{obstacles[obstacle]} {obstacle}"
        for obstacle in sorted(Obstacle)
        if obstacles[obstacle]
        and obstacle not in (*TEMPORARY, Obstacle.OTHER_KIND, Obstacle.OTHER_LABELS)
    ]
    # Whether they are held or just being made ready changes too often to be told each time.
    in_use = sum(obstacles[each] for each in TEMPORARY)
    others = ", ".join(([f"{in_use} in use"] if in_use else []) + lasting)
    reason = f"{wanted.count} wanted, {available} free{f' ({others})' if others else ''}"
    return reason, _not_enough(wanted, available, obstacles)


def told_which(
    wanted: Wanted,
    error: NotEnoughDevices,
    devices: Iterable[tuple[Candidate, Obstacle | None]],
) -> NotEnoughDevices:
    """The refusal with what is in the way of each device that the request could use."""
    unusable = (None, Obstacle.OTHER_KIND, Obstacle.OTHER_LABELS)
    explained = {
        each.serial: _explain(each, obstacle, wanted)
        for each, obstacle in devices
        if obstacle not in unusable
    }
    return NotEnoughDevices(error.message, **error.details, serials=explained)


def told_of_reservation(
    error: NotEnoughDevices, reservation: str, has: Sequence[str]
) -> NotEnoughDevices:
    """The refusal of more devices for a reservation with those that it has, and what is in the way.

    Args:
        error: from :func:`told_which`.
        reservation: that was to grow.
        has: its devices.
    """
    others = {serial: why for serial, why in error.details["serials"].items() if serial not in has}
    shown = dict(sorted(others.items())[:NAMED])
    told = f"{error.message}. Reservation {reservation} has {_some(sorted(has), len(has), ', ')}"
    if shown:
        named = [f"{serial} is {why}" for serial, why in shown.items()]
        told += f"; in the way: {_some(named, len(others), '; ')}"
    return NotEnoughDevices(told, **error.details | {"serials": shown, "has": sorted(has)})


def _some(words: Sequence[str], count: int, separator: str) -> str:
    more = count - len(words[:NAMED])
    return separator.join(words[:NAMED]) + (f" and {more} more" if more > 0 else "")


def over_limit(user: str, number: int, held: int, limit: int) -> LimitExceeded:
    """The refusal of a request that its user's limit does not allow for now."""
    return LimitExceeded(
        f"{user} holds {counted(held, 'device')} and wants {number} more, but may hold {limit}",
        limit=limit,
        held=held,
        wanted=number,
    )


def _explain(candidate: Candidate | None, obstacle: Obstacle | None, wanted: Wanted) -> str:
    if candidate is None or obstacle is None:
        return "not known any more"
    match obstacle:
        case Obstacle.OTHER_KIND:
            return f"at worker {candidate.worker}, which has no such {wanted.kind}"
        case Obstacle.NOT_ALLOWED:
            allowed = " or ".join(str(each) for each in wanted.allowed)
            return f"beyond your limits, which are boards with {allowed}"
        case Obstacle.HELD_BACK:
            return "kept for those who wait before you"
        case Obstacle.HELD if candidate.free_at is not None:
            free_at = candidate.free_at.isoformat(timespec="seconds")
            return f"held by {candidate.holder} until {free_at}"
    return candidate.why or obstacle.value


def _not_enough(
    wanted: Wanted, available: int, obstacles: Counter[Obstacle | None]
) -> NotEnoughDevices:
    reasons = {each.value: obstacles[each] for each in Obstacle if obstacles[each]}
    listing = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    what = f"{counted(wanted.number, 'device')} of kind {wanted.kind}"
    if wanted.selector.requirements:
        what += f" with {wanted.selector}"
    remedies = [f"{'grow by' if wanted.grows else 'reserve'} {available}"] if available else []
    temporary = any(obstacles[each] for each in TEMPORARY)
    if temporary:
        remedies.append(f"grow {LATER}" if wanted.grows else "wait for others in the queue")
    if not obstacles.total():
        remedies = ["start a worker that has boards"]
    remedy = " or ".join(remedies) or "`icebus devices` shows what each of them is and does"
    return NotEnoughDevices(
        f"{what} wanted, {available} available{f' ({listing})' if listing else ''}; {remedy}",
        kind=wanted.kind,
        wanted=wanted.count,
        available=available,
        others=reasons,
        soon=available + obstacles[Obstacle.BUSY] >= wanted.number,
        temporary=temporary,
    )
