"""The scheduler: who gets which devices now, and what the others wait for. Pure.

One function over all that waits and all that is there, the same under every order of its input.
Requests are looked at in turn. Whoever can have all the devices that are wanted gets them; whoever
can't holds back those that are free from everybody behind, so that a large request is not passed by
small ones for ever. Two hold nothing back, because nobody could say for how long: those that
want more than are in working order, and those whose user is at a limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import nsmallest

from icebus.control.decide.limits import Limits
from icebus.control.decide.obstacles import (
    Candidate,
    Obstacle,
    Wanted,
    missing_count,
    missing_named,
    over_limit,
    told_which,
)
from icebus.schemas.errors import IcebusError

AGEING = timedelta(minutes=1)
"""Waiting that makes up for one step of priority. So the lowest of all overtakes whoever comes with
the highest after 200 minutes, which is within a working day."""


@dataclass(frozen=True)
class QueuedRequest:
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
        groups: of the user, which have limits too.
    """

    id: str
    user: str
    wanted: Wanted
    since: datetime
    duration: timedelta
    priority: int = 0
    replaces: str | None = None
    groups: tuple[str, ...] = ()

    @property
    def queue_order(self) -> tuple[bool, datetime, datetime, str, str]:
        """What the queue is sorted by.

        Priority that rises with waiting, for all at the same pace, is the same as having come
        earlier; so the order of two that wait never changes.
        """
        came = self.since - self.priority * AGEING
        return (self.replaces is None, came, self.since, self.id, self.replaces or "")


@dataclass(frozen=True)
class Grant:
    """Devices for a request: all that it wants, sorted by serial."""

    request: QueuedRequest
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
        held_back: free devices that nobody else may have.
    """

    grants: tuple[Grant, ...]
    places: Mapping[str, Place]
    held_back: frozenset[str]


def plan(
    candidates: Iterable[Candidate],
    queue: Iterable[QueuedRequest],
    now: datetime,
    held: Mapping[str, int],
    limits: Limits,
    spent: Callable[[str, int], IcebusError | None] | None = None,
) -> Plan:
    """Who gets which devices now.

    Args:
        candidates: all devices.
        queue: all requests.
        now: the moment.
        held: how many devices each user has.
        limits: how many each may have.
        spent: why a user has not enough hours left for so many devices; None if he has.
    """
    devices = _Devices(sorted(candidates, key=lambda each: each.serial), now)
    users = Counter(held)
    grants: list[Grant] = []
    places: dict[str, Place] = {}
    for request in sorted(queue, key=lambda each: each.queue_order):
        replaces = request.replaces is not None
        number = request.wanted.number
        limit = limits.of(request.user, request.groups).devices
        no_hours = None if replaces or spent is None else spent(request.user, number)
        if not replaces and limit is not None and users[request.user] + number > limit:
            refusal = over_limit(request.user, number, users[request.user], limit)
            places[request.id] = Place(len(places) + 1, refusal.message, refusal)
        elif no_hours is not None:
            places[request.id] = Place(len(places) + 1, no_hours.message, no_hours)
        elif chosen := devices.choose(request.wanted):
            grants.append(Grant(request, devices.allocate(chosen, request.duration)))
            if not replaces:
                users[request.user] += number
        elif not replaces:
            reason, missing = devices.missing(request.wanted)
            estimate = devices.hold_back(request.wanted, request.duration)
            places[request.id] = Place(len(places) + 1, reason, missing, estimate)
    return Plan(tuple(grants), places, frozenset(devices.held_back))


def free_for(candidates: Iterable[Candidate], wanted: Wanted) -> list[str]:
    """The free devices that a request could use, by serial."""
    return sorted(
        each.serial
        for each in candidates
        if each.obstacle is None and wanted.mismatch(each) is None
    )


def choose_devices(free: Iterable[tuple[bool, str, str]], number: int) -> list[str]:
    """The devices that a request gets, by serial, of those that it could have.

    The n-th device taken of each worker goes before the (n+1)-th of any, which spreads them; those
    that need no flashing go first of all, because it takes seconds and wears the flash.

    Args:
        free: whether each has to be flashed, its serial and its worker.
        number: how many are wanted.
    """
    taken: Counter[str] = Counter()
    ranks: list[tuple[bool, int, str, str]] = []
    for flashing, serial, worker in sorted(free):
        ranks.append((flashing, taken[worker], worker, serial))
        taken[worker] += 1
    return [serial for *_, serial in nsmallest(number, ranks)]


class _Devices:
    """The devices while the queue is gone through."""

    def __init__(self, known: Sequence[Candidate], now: datetime) -> None:
        self._known = known
        self._now = now
        self._allocated: set[str] = set()
        self.held_back: set[str] = set()
        # When each device comes free, as far as that can be told; for estimates only.
        self._free_at = {
            each.serial: max(now, each.free_at or now)
            for each in known
            if each.obstacle in (None, Obstacle.HELD, Obstacle.BUSY)
        }

    def choose(self, wanted: Wanted) -> list[str]:
        """Devices for a request: as many as it wants, or none."""
        free = [
            (wanted.needs_flashing(each.worker, each.firmware), each.serial, each.worker)
            for each in self._known
            if self._obstacle(each, wanted) is None
        ]
        return choose_devices(free, wanted.number) if len(free) >= wanted.number else []

    def allocate(self, chosen: Iterable[str], duration: timedelta) -> tuple[str, ...]:
        """Take these devices for a request."""
        serials = tuple(sorted(chosen))
        self._allocated.update(serials)
        self._free_at.update(dict.fromkeys(serials, self._now + duration))
        return serials

    def hold_back(self, wanted: Wanted, duration: timedelta) -> datetime | None:
        """Keep what a request can use from those behind it.

        Returns:
            When it may have all that it wants; None when that can't be told.
        """
        usable = [
            each.serial
            for each in self._known
            if wanted.mismatch(each) is None and each.serial in self._free_at
        ]
        if len(usable) < wanted.number:
            return None
        self.held_back.update(
            each.serial for each in self._known if self._obstacle(each, wanted) is None
        )
        usable.sort(key=lambda serial: (self._free_at[serial], serial))
        chosen = usable[: wanted.number]
        begin = self._free_at[chosen[-1]]
        self._free_at.update(dict.fromkeys(chosen, begin + duration))
        return begin

    def missing(self, wanted: Wanted) -> tuple[str, IcebusError]:
        """What a request waits for, and the same as an error that names the remedy."""
        if wanted.count is not None:
            found = [(each, self._obstacle(each, wanted)) for each in self._known]
            reason, error = missing_count(wanted, Counter(obstacle for _, obstacle in found))
            return reason, (told_which(wanted, error, found) if wanted.grows else error)
        by_serial = {each.serial: each for each in self._known}
        named = [(serial, by_serial.get(serial)) for serial in sorted(wanted.serials)]
        obstacles = [
            (serial, each, None if each is None else self._obstacle(each, wanted))
            for serial, each in named
        ]
        refused = [found for found in obstacles if found[1] is None or found[2] is not None]
        return missing_named(wanted, refused)

    def _obstacle(self, each: Candidate, wanted: Wanted) -> Obstacle | None:
        """Why this request can't have that device."""
        obstacle = wanted.mismatch(each) or each.obstacle
        if obstacle is not None:
            return obstacle
        taken = each.serial in self._allocated or each.serial in self.held_back
        return Obstacle.HELD_BACK if taken else None
