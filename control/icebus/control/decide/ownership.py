"""Whose device it is when more than one worker says that it has it. Pure.

Whoever has a device keeps it for as long as it has it, so that a worker which claims what others
have, by mistake or with a stolen password, gets nothing by it. A board that moves is let go of by
its old worker: that reports it absent, or stays away for good. One that claimed it all along waits
longer for that: boards are absent for a moment for many reasons, and it would only have to lurk.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

RELEASE_AFTER = 600.0
"""Seconds that a worker may be away before a board of it that shows up elsewhere is followed there:
longer than it takes to restart its machine. Before, its boards are nobody else's to claim."""

LURKING = 60.0
"""Seconds that a device must have been let go of before it goes to a worker that claimed it while
its owner had it: longer than any reset, reboot or loose plug."""


@dataclass(frozen=True)
class Claim:
    """What a worker says of a device.

    Attributes:
        worker: its id.
        has: whether it says that it has the device; of one that is away, whether it last said so.
        current: whether its present run said so.
        answers: whether it answers heartbeats; None where that is not known yet.
        away: seconds since it has been away, of one that does not answer.
        early: whether it said so while the owner had it.
    """

    worker: str
    has: bool
    current: bool = True
    answers: bool | None = True
    away: float = 0.0
    early: bool = False


def decide_owner(
    owner: str | None,
    claims: Collection[Claim],
    release_after: float,
    let_go: float = math.inf,
) -> str | None:
    """Whose device it is from now on.

    Args:
        owner: whose it was; None when nobody's.
        claims: what each worker says that ever reported it, in any order.
        release_after: seconds after which a worker that is away has let go of all it had.
        let_go: seconds since the owner has said that it has the device no more.

    Returns:
        None only when it was nobody's, and nobody says that it has it.
    """
    holds = next((claim for claim in claims if claim.worker == owner), None)
    if holds is not None and holds.has and (holds.answers or holds.away < release_after):
        return owner
    others = [claim for claim in claims if claim.worker != owner]
    # Who is heard of only through what is retained may have been gone for long.
    waits = holds is not None and not holds.has and let_go < LURKING
    ready = sorted(
        each.worker
        for each in others
        if _is_there(each) and each.answers and not (each.early and waits)
    )
    if ready:
        return ready[0]
    if owner is not None:
        return owner
    known = sorted((not _is_there(claim), claim.worker) for claim in others if claim.has)
    return known[0][1] if known else None


def claimants(owner: str | None, claims: Collection[Claim]) -> tuple[str, ...]:
    """Who else says that it has the device, and is there."""
    return tuple(sorted(each.worker for each in claims if each.worker != owner and _is_there(each)))


def _is_there(claim: Claim) -> bool:
    return claim.has and claim.current and claim.answers is not False
