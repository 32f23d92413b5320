"""The scheduler: who gets which devices now, and what the others wait for. Pure.

One function over all that waits and all that is there, the same under every order of its input.
Requests are looked at in turn. Whoever can have all the devices that are wanted gets them; whoever
can't keeps those that are free from everybody behind, so that a large request is not passed by
small ones for ever. Two do not keep anything, because nobody could say for how long: those that
want more than are in working order, and those whose user is at a limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from heapq import nsmallest

from icebus.control.decide.limits import Limits
from icebus.schemas.errors import DeviceUnavailable, IcebusError, LimitExceeded, NotEnoughDevices
from icebus.schemas.selectors import Selector
from icebus.schemas.wording import counted

AGEING = timedelta(minutes=1)
"""Waiting that makes up for one step of priority. So the lowest of all overtakes whoever comes with
the highest after 200 minutes, which is within a working day."""


class Obstacle(StrEnum):
    """Why a device can't be had now, in the words a refusal lists."""

    HELD = "held"
    BUSY = "not ready yet"
    KEPT = "kept for those who wait before"
    BROKEN = "broken"
    QUARANTINED = "quarantined"
    ABSENT = "absent"
    STALE = "on workers that do not answer"
    DRAINING = "on workers that drain"
    OTHER_KIND = "without this kind"
    OTHER_LABELS = "with other labels"


_PASSING = (Obstacle.HELD, Obstacle.BUSY, Obstacle.KEPT)
"""What goes by itself, so that waiting for it makes sense."""


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
        firmware: what that needs, by the workers that offer the kind and take its arguments.
        count: how many; None when they are named.
        serials: which ones.
        selector: what labels they must have.
    """

    kind: str
    firmware: Mapping[str, str]
    count: int | None = None
    serials: tuple[str, ...] = ()
    selector: Selector = field(default_factory=Selector)

    @property
    def number(self) -> int:
        """How many devices."""
        return len(self.serials) if self.count is None else self.count

    def cold(self, worker: str, firmware: str) -> bool:
        """Whether a device has to be flashed for it."""
        return firmware != self.firmware[worker]


@dataclass(frozen=True)
class Waiting:
    """A request in the queue.

    Attributes:
        id: the reservation that it will be.
        user: whose.
        wanted: what is to be given.
        since: when it came.
        duration: how long it keeps what it gets.
        priority: higher goes first.
        replaces: the failed device that another one is wanted for. It has its place in front of
            the queue, for its reservation has had its turn.
    """

    id: str
    user: str
    wanted: Wanted
    since: datetime
    duration: timedelta
    priority: int = 0
    replaces: str | None = None

    @property
    def turn(self) -> tuple[bool, datetime, datetime, str, str]:
        """What the queue is sorted by.

        Priority that rises with waiting, for all at the same pace, is the same as having come
        earlier; so the order of two that wait never changes.
        """
        came = self.since - self.priority * AGEING
        return (self.replaces is None, came, self.since, self.id, self.replaces or "")


@dataclass(frozen=True)
class Grant:
    """Devices for a request: all that it wants, sorted by serial."""

    waiting: Waiting
    serials: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """Where a request stands that gets nothing yet.

    Attributes:
        position: 1 is next.
        reason: what it waits for; nothing in it changes merely because time goes by.
        refusal: the same for whoever does not want to wait.
        estimate: when it may have its devices if nobody extends.
    """

    position: int
    reason: str
    refusal: IcebusError
    estimate: datetime | None = None


@dataclass(frozen=True)
class Plan:
    """What follows from the queue now.

    Attributes:
        grants: who gets what.
        places: where the others stand, by the id of the reservation.
        kept: free devices that nobody else may have.
    """

    grants: tuple[Grant, ...]
    places: Mapping[str, Place]
    kept: frozenset[str]


def plan(
    candidates: Iterable[Candidate],
    queue: Iterable[Waiting],
    now: datetime,
    held: Mapping[str, int],
    limits: Limits,
) -> Plan:
    """Who gets which devices now.

    Args:
        candidates: all devices.
        queue: all requests.
        now: the moment.
        held: how many devices each user has.
        limits: how many each may have.
    """
    desk = _Desk(sorted(candidates, key=lambda each: each.serial), now)
    users = Counter(held)
    grants: list[Grant] = []
    places: dict[str, Place] = {}
    for waiting in sorted(queue, key=lambda each: each.turn):
        replaces = waiting.replaces is not None
        number = waiting.wanted.number
        limit = limits.of(waiting.user).devices
        if not replaces and limit is not None and users[waiting.user] + number > limit:
            over = _over(waiting, users[waiting.user], limit)
            places[waiting.id] = Place(len(places) + 1, over.message, over)
        elif chosen := desk.choose(waiting.wanted):
            grants.append(Grant(waiting, desk.give(chosen, waiting.duration)))
            if not replaces:
                users[waiting.user] += number
        elif not replaces:
            reason, refusal = desk.reason(waiting.wanted), desk.refusal(waiting.wanted)
            estimate = desk.keep(waiting.wanted, waiting.duration)
            places[waiting.id] = Place(len(places) + 1, reason, refusal, estimate)
    return Plan(tuple(grants), places, frozenset(desk.kept))


def fitting(candidates: Iterable[Candidate], wanted: Wanted) -> list[str]:
    """The free devices that a request could use, by serial."""
    return sorted(
        each.serial
        for each in candidates
        if each.obstacle is None and _misfit(each, wanted) is None
    )


def best(free: Iterable[tuple[bool, str, str]], number: int) -> list[str]:
    """The devices that a request gets, by serial, of those that it could have.

    The n-th device taken of each worker goes before the (n+1)-th of any, which spreads them; warm
    ones go first of all, because flashing takes seconds and wears the flash.

    Args:
        free: whether each has to be flashed, its serial and its worker.
        number: how many are wanted.
    """
    taken: Counter[str] = Counter()
    ranks: list[tuple[bool, int, str, str]] = []
    for cold, serial, worker in sorted(free):
        ranks.append((cold, taken[worker], worker, serial))
        taken[worker] += 1
    return [serial for *_, serial in nsmallest(number, ranks)]


class _Desk:
    """The devices while the queue is gone through."""

    def __init__(self, known: Sequence[Candidate], now: datetime) -> None:
        self._known = known
        self._now = now
        self._taken: set[str] = set()
        self.kept: set[str] = set()
        # When each device comes free, as far as that can be told; for estimates only.
        self._free_at = {
            each.serial: max(now, each.free_at or now)
            for each in known
            if each.obstacle in (None, Obstacle.HELD, Obstacle.BUSY)
        }

    def choose(self, wanted: Wanted) -> list[str]:
        """Devices for a request: as many as it wants, or none."""
        free = [
            (wanted.cold(each.worker, each.firmware), each.serial, each.worker)
            for each in self._known
            if self._obstacle(each, wanted) is None
        ]
        return best(free, wanted.number) if len(free) >= wanted.number else []

    def give(self, chosen: Iterable[str], duration: timedelta) -> tuple[str, ...]:
        """Take these devices out of the game."""
        serials = tuple(sorted(chosen))
        self._taken.update(serials)
        self._free_at.update(dict.fromkeys(serials, self._now + duration))
        return serials

    def keep(self, wanted: Wanted, duration: timedelta) -> datetime | None:
        """Keep what a request can use from those behind it; returns when it may have it all."""
        usable = [
            each.serial
            for each in self._known
            if _misfit(each, wanted) is None and each.serial in self._free_at
        ]
        if len(usable) < wanted.number:
            return None
        self.kept.update(
            each.serial for each in self._known if self._obstacle(each, wanted) is None
        )
        usable.sort(key=lambda serial: (self._free_at[serial], serial))
        chosen = usable[: wanted.number]
        begin = self._free_at[chosen[-1]]
        self._free_at.update(dict.fromkeys(chosen, begin + duration))
        return begin

    def reason(self, wanted: Wanted) -> str:
        """What a request waits for."""
        if wanted.count is None:
            return "; ".join(
                f"{serial} is {f'held by {each.holder}' if each and each.holder else why}"
                for serial, each, why in self._refused(wanted)
            )
        obstacles = self._obstacles(wanted)
        available = obstacles.pop(None, 0)
        lasting = [
            f"{count} {obstacle}"
            for obstacle, count in sorted(obstacles.items(), key=lambda item: str(item[0]))
            if obstacle not in (*_PASSING, Obstacle.OTHER_KIND, Obstacle.OTHER_LABELS)
        ]
        # Whether they are held or just being made ready changes too often to be told each time.
        passing = sum(obstacles[each] for each in _PASSING if each in obstacles)
        others = ", ".join(([f"{passing} in use"] if passing else []) + lasting)
        return f"{wanted.count} wanted, {available} free{f' ({others})' if others else ''}"

    def refusal(self, wanted: Wanted) -> IcebusError:
        """The same as an error that names the remedy."""
        if wanted.count is None:
            refused = self._refused(wanted)
            passing = any(
                each is not None and self._obstacle(each, wanted) in _PASSING
                for _, each, _ in refused
            )
            return DeviceUnavailable(
                "; ".join(f"{serial} is {why}" for serial, _, why in refused)
                + ("; `--wait` stands in the queue for them" if passing else ""),
                serials={serial: why for serial, _, why in refused},
                soon=all(
                    each is not None and self._obstacle(each, wanted) is Obstacle.BUSY
                    for _, each, _ in refused
                ),
            )
        obstacles = self._obstacles(wanted)
        return _not_enough(wanted, obstacles.pop(None, 0), obstacles, known=bool(self._known))

    def _obstacles(self, wanted: Wanted) -> Counter[Obstacle | None]:
        return Counter(self._obstacle(each, wanted) for each in self._known)

    def _refused(self, wanted: Wanted) -> list[tuple[str, Candidate | None, str]]:
        """Of the devices that are named, those that can't be had and why."""
        by_serial = {each.serial: each for each in self._known}
        found: list[tuple[str, Candidate | None, str]] = []
        for serial in sorted(wanted.serials):
            each = by_serial.get(serial)
            if each is None:
                found.append((serial, None, "not known any more"))
            elif (obstacle := self._obstacle(each, wanted)) is not None:
                found.append((serial, each, _explain(each, obstacle, wanted)))
        return found

    def _obstacle(self, each: Candidate, wanted: Wanted) -> Obstacle | None:
        """Why this request can't have that device."""
        misfit = _misfit(each, wanted)
        if misfit is not None:
            return misfit
        if each.obstacle is not None:
            return each.obstacle
        kept = each.serial in self._taken or each.serial in self.kept
        return Obstacle.KEPT if kept else None


def _misfit(each: Candidate, wanted: Wanted) -> Obstacle | None:
    """Why this request could never use that device, free or not."""
    if wanted.count is None and each.serial not in wanted.serials:
        return Obstacle.OTHER_LABELS
    if each.worker not in wanted.firmware:
        return Obstacle.OTHER_KIND
    if not wanted.selector.matches(each.labels):
        return Obstacle.OTHER_LABELS
    return None


def _explain(each: Candidate, obstacle: Obstacle, wanted: Wanted) -> str:
    match obstacle:
        case Obstacle.OTHER_KIND:
            return f"at worker {each.worker}, which has no such {wanted.kind}"
        case Obstacle.KEPT:
            return "kept for those who wait before you"
        case Obstacle.HELD if each.free_at is not None:
            return f"held by {each.holder} until {each.free_at.isoformat(timespec='seconds')}"
    return each.why or obstacle.value


def _over(waiting: Waiting, has: int, limit: int) -> LimitExceeded:
    number = waiting.wanted.number
    return LimitExceeded(
        f"{waiting.user} holds {counted(has, 'device')} and wants {number} more, "
        f"but may hold {limit}",
        limit=limit,
        held=has,
        wanted=number,
    )


def _not_enough(
    wanted: Wanted, available: int, obstacles: Mapping[Obstacle | None, int], *, known: bool
) -> NotEnoughDevices:
    reasons = {each.value: obstacles[each] for each in Obstacle if obstacles.get(each)}
    listing = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    what = f"{counted(wanted.number, 'device')} of kind {wanted.kind}"
    if wanted.selector.requirements:
        what += f" with {wanted.selector}"
    passing = any(obstacles.get(each) for each in _PASSING)
    remedies = [f"reserve {available}"] if available else []
    remedies += ["wait for others with `--wait`"] if passing else []
    remedy = " or ".join(remedies)
    if not known:
        remedy = "start a worker with boards, or `icebus up`"
    elif not remedy:
        remedy = "`icebus devices` shows what each of them is and does"
    return NotEnoughDevices(
        f"{what} wanted, {available} available{f' ({listing})' if listing else ''}; {remedy}",
        kind=wanted.kind,
        wanted=wanted.count,
        available=available,
        others=reasons,
        soon=available + obstacles.get(Obstacle.BUSY, 0) >= wanted.number,
    )
