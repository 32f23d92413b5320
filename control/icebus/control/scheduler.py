"""The allocator: which devices a request gets. Pure, and the same under any order of its input.

It decides for one request at one moment. A queue would call it for each waiting request in turn,
with the candidates that the earlier ones left; labels and priorities would be attributes of
:class:`Candidate` and :class:`Wanted`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from icebus.schemas.errors import DeviceUnavailable, NotEnoughDevices, UnknownDevice


class Obstacle(StrEnum):
    """Why a device can't be had now, in the words a refusal lists."""

    HELD = "held"
    BUSY = "not ready yet"
    BROKEN = "broken"
    QUARANTINED = "quarantined"
    ABSENT = "absent"
    STALE = "on workers that do not answer"
    OTHER_KIND = "without this kind"


@dataclass(frozen=True)
class Candidate:
    """A device as the allocator sees it.

    Attributes:
        serial: its name.
        worker: who owns it.
        warm: whether it runs the firmware that is needed.
        obstacle: why it can't be had; None when it can.
        why: the obstacle in full, for people.
    """

    serial: str
    worker: str
    warm: bool = False
    obstacle: Obstacle | None = None
    why: str = ""


@dataclass(frozen=True)
class Wanted:
    """What a request asks for: that many devices, or exactly these."""

    kind: str
    count: int | None = None
    serials: tuple[str, ...] = ()


def allocate(candidates: Iterable[Candidate], wanted: Wanted) -> tuple[Candidate, ...]:
    """The devices the request gets: all it asks for, sorted by serial.

    Raises:
        UnknownDevice: a serial that is not among the candidates.
        DeviceUnavailable: a serial that can't be had; the message says why.
        NotEnoughDevices: fewer can be had than asked for; the message says where the others are.
    """
    known = sorted(candidates, key=lambda each: each.serial)
    chosen = _by_serial(known, wanted) if wanted.count is None else _by_count(known, wanted)
    return tuple(sorted(chosen, key=lambda each: each.serial))


def _by_serial(known: Sequence[Candidate], wanted: Wanted) -> list[Candidate]:
    by_serial = {each.serial: each for each in known}
    unknown = sorted(set(wanted.serials) - set(by_serial))
    if unknown:
        raise UnknownDevice(
            f"no device {', '.join(unknown)}; `icebus devices` lists those there are",
            serials=unknown,
        )
    chosen = [by_serial[serial] for serial in wanted.serials]
    refused = sorted(
        (each for each in chosen if each.obstacle is not None), key=lambda each: each.serial
    )
    if refused:
        raise DeviceUnavailable(
            "; ".join(f"{each.serial} is {each.why}" for each in refused),
            serials={each.serial: each.why for each in refused},
        )
    return chosen


def _by_count(known: Sequence[Candidate], wanted: Wanted) -> list[Candidate]:
    free = [each for each in known if each.obstacle is None]
    count = wanted.count or 0
    if len(free) < count:
        raise _not_enough(known, wanted, len(free))
    # The n-th device taken of each worker goes before the (n+1)-th of any, which spreads them;
    # warm ones go first of all, because flashing takes seconds and wears the flash.
    taken: Counter[str] = Counter()
    ranked: list[tuple[bool, int, str, str, Candidate]] = []
    for each in sorted(free, key=lambda each: (not each.warm, each.serial)):
        ranked.append((not each.warm, taken[each.worker], each.worker, each.serial, each))
        taken[each.worker] += 1
    ranked.sort(key=lambda rank: rank[:4])
    return [rank[4] for rank in ranked[:count]]


def _not_enough(known: Sequence[Candidate], wanted: Wanted, available: int) -> NotEnoughDevices:
    others = Counter(each.obstacle for each in known if each.obstacle is not None)
    reasons = {obstacle.value: others[obstacle] for obstacle in Obstacle if others[obstacle]}
    listing = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    remedy = (
        f"reserve {available} or wait for others to be released"
        if available
        else "wait for others to be released"
        if others[Obstacle.HELD] or others[Obstacle.BUSY]
        else "see `icebus devices` for what is wrong with them"
        if known
        else "start a worker with boards, or `icebus up`"
    )
    return NotEnoughDevices(
        f"{wanted.count} devices of kind {wanted.kind} wanted, {available} available"
        f"{f' ({listing})' if listing else ''}; {remedy}",
        kind=wanted.kind,
        wanted=wanted.count,
        available=available,
        others=reasons,
    )
