"""Whose device each one is, and who else claims it, as time goes by. In memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TypeVar

from icebus.control.decide.ownership import Claim, claimants, decide_owner

CLAIM_REMEMBERED = 60.0
"""Seconds that a claim is told of after its worker has taken it back: one that says this and that
in turn is one alarm, not hundreds."""

V = TypeVar("V", dict[str, float], set[str])


class Owners:
    """The owners of all devices.

    Moments are of the monotonic clock.

    Args:
        release_after: seconds after which a worker that is away has let go of all it had.
    """

    def __init__(self, release_after: float) -> None:
        self._release_after = release_after
        self._owners: dict[str, str] = {}
        self._claims: dict[str, dict[str, float]] = {}
        self._early: dict[str, set[str]] = {}
        self._let_go: dict[str, float] = {}

    def settle(self, serial: str, claims: Collection[Claim], at: float) -> bool:
        """Decide anew whose a device is; returns whether that, or who else claims it, changed."""
        before = self._owners.get(serial), self.claimants(serial)
        early = self._early.get(serial, set())
        known = {claim.worker: replace(claim, early=claim.worker in early) for claim in claims}
        let_go = at - self._let_go.setdefault(serial, at)
        owner = decide_owner(before[0], known.values(), self._release_after, let_go)
        if owner is None:
            return self.forget(serial)
        self._owners[serial] = owner
        now = claimants(owner, known.values())
        remembered = {
            worker: last
            for worker, last in self._claims.get(serial, {}).items()
            if worker != owner and at < last + CLAIM_REMEMBERED
        }
        remembered |= dict.fromkeys(now, at)
        _keep(self._claims, serial, remembered)
        has = owner in known and known[owner].has
        if has:
            del self._let_go[serial]
        _keep(self._early, serial, (early | set(now) if has else early) & remembered.keys())
        return before != (owner, self.claimants(serial))

    def restore(self, serial: str, owner: str, claimed_by: Collection[str], at: float) -> None:
        """Take over from the database whose a device was, and who claimed it then."""
        self._owners[serial] = owner
        _keep(self._claims, serial, dict.fromkeys(claimed_by, at))
        _keep(self._early, serial, set(claimed_by))

    def assign(self, serial: str, owner: str | None) -> None:
        """Take over from the database, or from an administrator, whose device it is."""
        if owner is None:
            self._owners.pop(serial, None)
        else:
            self._owners[serial] = owner
        self._let_go.pop(serial, None)

    def withdraw(self, serial: str, worker: str) -> None:
        """A worker never had that device, nor claimed it."""
        if self._owners.get(serial) == worker:
            self.assign(serial, None)
        self._claims.get(serial, {}).pop(worker, None)
        self._early.get(serial, set()).discard(worker)

    def forget(self, serial: str) -> bool:
        """Nobody has ever reported that device; returns whether that is news."""
        told = self._claims.pop(serial, None)
        self._early.pop(serial, None)
        self._let_go.pop(serial, None)
        return self._owners.pop(serial, None) is not None or told is not None

    def of(self, serial: str) -> str | None:
        """The worker that a device belongs to."""
        return self._owners.get(serial)

    def of_worker(self, worker: str) -> set[str]:
        """The devices that belong to a worker."""
        return {serial for serial, owner in self._owners.items() if owner == worker}

    def claimants(self, serial: str) -> tuple[str, ...]:
        """The other workers that say, or said just now, that they have a device."""
        return tuple(sorted(self._claims.get(serial, ())))

    def claimed(self) -> Iterable[str]:
        """The devices that more than one worker claims."""
        return self._claims.keys()

    def serials(self) -> Iterable[str]:
        """All devices ever heard of."""
        return self._owners.keys()


def _keep(where: dict[str, V], serial: str, what: V) -> None:
    """Keep something of a device, or nothing where there is nothing."""
    if what:
        where[serial] = what
    else:
        where.pop(serial, None)
