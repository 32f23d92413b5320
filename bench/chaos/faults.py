"""What goes wrong in a run of chaos, and when: a schedule that a seed decides alone."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from icebus.schemas.boards.rack import Fault as BoardFault

MEAN_INTERVAL = 3.0
"""Seconds between faults, on average."""

BRIEF = (0.3, 1.0, 3.0)
"""Seconds that most faults last."""

LONG = (8.0, 20.0, 35.0)
"""Seconds that some last: beyond the grace of clients, MQTT's keepalive, what the library waits."""

BRIEF_SHARE = 0.75

BOARD_FAULT_SECONDS = (1.0, 8.0, 30.0, 60.0)
"""Seconds that a board misbehaves: long enough to reach each step of recovery."""

MARGIN = 10.0
"""Seconds at both ends of a run in which nothing begins."""


class FaultType(StrEnum):
    """A way to go wrong."""

    KILL = "kill"
    STOP = "stop"
    FREEZE = "freeze"
    FORGET = "forget"
    CUT = "cut"
    HALF_OPEN = "half_open"
    DELAY = "delay"
    UNPLUG = "unplug"
    RESET = "reset"
    HANG = "hang"
    WEDGE = "wedge"
    STALL = "stall"
    BABBLE = "babble"
    GARBAGE = "garbage"
    MISREPORT = "misreport"
    BOOTLOADER = "bootloader"


BOARD_FAULTS = frozenset(FaultType(each) for each in BoardFault)
"""What may go wrong with a board itself: all that a virtual board can do wrong."""

LASTING = frozenset(FaultType) - {FaultType.CUT, FaultType.HALF_OPEN}
"""Those that have to be repaired; the others are over at once."""

_PROCESS = (FaultType.KILL, FaultType.KILL, FaultType.STOP, FaultType.FREEZE)
_NETWORK = (FaultType.CUT, FaultType.HALF_OPEN, FaultType.DELAY)

TYPES = {
    "broker": (*_PROCESS, FaultType.FORGET),
    "database": _PROCESS,
    "control": (*_PROCESS, *_NETWORK),
    "worker": (*_PROCESS, *_NETWORK),
    "client": (*_PROCESS, *_NETWORK),
    "rack": (
        *[FaultType.UNPLUG] * 4,
        *[FaultType.RESET] * 2,
        *(each for each in FaultType if each in BOARD_FAULTS),
        *_PROCESS,
    ),
}
"""What may go wrong with each part of a farm. Racks stand for hardware: some boards are unplugged,
or all at once when their hub is reset, or some misbehave. And they are programs, too: if one is
killed all of its boards go, if one is frozen they all hang."""

ON_SOME_BOARDS = BOARD_FAULTS | {FaultType.UNPLUG}
"""What concerns some boards of a rack, not all of it."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        at: seconds from the beginning.
        target: a part of the farm, such as ``worker1``.
        type: what goes wrong.
        seconds: until it is repaired.
        boards: which ones of a rack, by number.
    """

    at: float
    target: str
    type: FaultType
    seconds: float = 0.0
    boards: tuple[int, ...] = ()

    @property
    def end(self) -> float:
        """When it is repaired."""
        return self.at + self.seconds

    def __str__(self) -> str:
        what = f"{self.type} {self.target}"
        if self.boards:
            what += f" {','.join(map(str, self.boards))}"
        return f"{what} for {self.seconds:g} s" if self.type in LASTING else what


def schedule(seed: int, seconds: float, targets: list[str], boards: int) -> list[Fault]:
    """The faults of a run, in order. A target has one at a time; different ones may overlap.

    Args:
        seed: decides everything.
        seconds: within which the last is repaired.
        targets: parts of the farm; what they are called tells how they can fail.
        boards: of a rack.
    """
    rng = random.Random(seed)
    free = dict.fromkeys(targets, 0.0)
    faults: list[Fault] = []
    at = MARGIN
    while (at := at + rng.expovariate(1 / MEAN_INTERVAL)) < seconds - MARGIN:
        target = rng.choice(targets)
        type_ = rng.choice(TYPES[target.rstrip("0123456789")])
        if type_ in BOARD_FAULTS:
            durations: tuple[float, ...] = BOARD_FAULT_SECONDS
        else:
            durations = BRIEF if rng.random() < BRIEF_SHARE else LONG
        duration = rng.choice(durations)
        some = tuple(sorted(rng.sample(range(boards), rng.randint(1, max(1, boards // 2)))))
        fault = Fault(
            round(at, 2),
            target,
            type_,
            round(min(duration, seconds - at), 1) if type_ in LASTING else 0.0,
            some if type_ in ON_SOME_BOARDS else (),
        )
        if at >= free[target]:
            faults.append(fault)
            free[target] = fault.end + 1
    return faults
