"""Who holds how many of a worker's devices, by what control wants of them."""

from __future__ import annotations

from collections import Counter

from icebus.schemas.devices import Desired


class Holders:
    """Counts devices by their holder, kept up to date as each desired state comes.

    To count all devices anew for each would take the square of their number at every connect. One
    thread changes it; others may look.
    """

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    def change(self, before: Desired | None, after: Desired | None) -> None:
        """Of one device, something else is wanted than before."""
        old, new = _holder(before), _holder(after)
        if old == new:
            return
        if new is not None:
            self._held[new] += 1
        if old is not None:
            self._held[old] -= 1
            if self._held[old] <= 0:
                del self._held[old]

    def of(self, user: str) -> int:
        """How many devices that user holds."""
        return self._held.get(user, 0)

    @property
    def all(self) -> int:
        """How many devices anybody holds."""
        return self._held.total()

    @property
    def users(self) -> int:
        """How many users hold any."""
        return len(self._held)


def _holder(desired: Desired | None) -> str | None:
    return desired.user if desired is not None and desired.reservation else None
