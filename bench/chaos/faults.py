"""What goes wrong in a run of chaos, and when: a schedule that a seed decides alone."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from icebus.schemas.boards.rack import Fault as Ailment

EVERY = 3.0
"""Seconds between faults, on average."""

BRIEF = (0.3, 1.0, 3.0)
"""Seconds that most faults last."""

LONG = (8.0, 20.0, 35.0)
"""Seconds that some last: beyond the grace of clients, MQTT's keepalive, the library's patience."""

OFTEN_BRIEF = 0.75

AILING = (1.0, 8.0, 30.0, 60.0)
"""Seconds that boards are ill: up to each step of the ladder that their worker climbs with them."""

SETTLE = 10.0
"""Seconds at both ends of a run in which nothing begins."""


class Kind(StrEnum):
    """A way to go wrong."""

    KILL = "kill"
    STOP = "stop"
    FREEZE = "freeze"
    FORGET = "forget"
    CUT = "cut"
    HALF_OPEN = "half_open"
    HOLD = "hold"
    UNPLUG = "unplug"
    RESET = "reset"
    HANG = "hang"
    WEDGE = "wedge"
    STALL = "stall"
    BABBLE = "babble"
    GARBAGE = "garbage"
    MISREPORT = "misreport"
    BOOTLOADER = "bootloader"


ILL = frozenset(Kind(each) for each in Ailment)
"""What may be wrong with a board itself: all that a virtual board can have."""

LASTING = frozenset(Kind) - {Kind.CUT, Kind.HALF_OPEN}
"""Those that have to be mended; the others are over when they are done."""

_PROCESS = (Kind.KILL, Kind.KILL, Kind.STOP, Kind.FREEZE)
_NETWORK = (Kind.CUT, Kind.HALF_OPEN, Kind.HOLD)

WAYS = {
    "broker": (*_PROCESS, Kind.FORGET),
    "database": _PROCESS,
    "control": (*_PROCESS, *_NETWORK),
    "worker": (*_PROCESS, *_NETWORK),
    "client": (*_PROCESS, *_NETWORK),
    "rack": (
        *[Kind.UNPLUG] * 4,
        *[Kind.RESET] * 2,
        *(kind for kind in Kind if kind in ILL),
        *_PROCESS,
    ),
}
"""How the parts of a farm go wrong. Racks stand for hardware: some boards are unplugged, or all at
once when their hub is reset, or some are ill. And they are programs, too: with one that is killed
all of its boards go, one that is frozen has them all hang."""

SOME = ILL | {Kind.UNPLUG}
"""What happens to some boards of a rack."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        at: seconds from the beginning.
        target: a part of the farm, such as ``worker1``.
        kind: how.
        seconds: until it is mended.
        boards: which ones of a rack, by number.
    """

    at: float
    target: str
    kind: Kind
    seconds: float = 0.0
    boards: tuple[int, ...] = ()

    @property
    def over(self) -> float:
        """When it is mended."""
        return self.at + self.seconds

    def __str__(self) -> str:
        what = f"{self.kind} {self.target}"
        if self.boards:
            what += f" {','.join(map(str, self.boards))}"
        return f"{what} for {self.seconds:g} s" if self.kind in LASTING else what


def schedule(seed: int, seconds: float, targets: list[str], boards: int) -> list[Fault]:
    """The faults of a run, in order. A target has one at a time; different ones may overlap.

    Args:
        seed: decides all.
        seconds: within which the last is mended.
        targets: parts of the farm; what they are called tells how they can fail.
        boards: of a rack.
    """
    chance = random.Random(seed)
    free = dict.fromkeys(targets, 0.0)
    faults: list[Fault] = []
    at = SETTLE
    while (at := at + chance.expovariate(1 / EVERY)) < seconds - SETTLE:
        target = chance.choice(targets)
        kind = chance.choice(WAYS[target.rstrip("0123456789")])
        lasts = chance.choice(
            AILING if kind in ILL else BRIEF if chance.random() < OFTEN_BRIEF else LONG
        )
        some = tuple(sorted(chance.sample(range(boards), chance.randint(1, max(1, boards // 2)))))
        fault = Fault(
            round(at, 2),
            target,
            kind,
            round(min(lasts, seconds - at), 1) if kind in LASTING else 0.0,
            some if kind in SOME else (),
        )
        if at >= free[target]:
            faults.append(fault)
            free[target] = fault.over + 1
    return faults
