"""Which browsers may be connected at once, and which one makes way for another. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(eq=False)
class Place:
    """The place of one browser.

    Attributes:
        who: its address.
        make_way: has it go.
        signed_in: whether the broker has taken it in.
    """

    who: str
    make_way: Callable[[], object] = field(repr=False)
    signed_in: bool = False


class Places:
    """So many places, of which nobody has all for long.

    Args:
        limit: browsers at once.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: dict[Place, None] = {}

    def take(self, place: Place) -> Place | None:
        """Have another one in, or not.

        When all places are taken, the one makes way that has waited longest to sign in, which an
        honest one does at once; else the newest of an address that has two more than the
        newcomer's.

        Returns:
            Who does not get in: one of those before, or the newcomer; None when there is room.
        """
        out = self._in_the_way(place.who) or place if len(self._taken) >= self._limit else None
        if out is not place:
            self._taken[place] = None
        if out is not None:
            self._taken.pop(out, None)
        return out

    def leave(self, place: Place) -> None:
        """One has gone."""
        self._taken.pop(place, None)

    def _in_the_way(self, who: str) -> Place | None:
        waiting = next((each for each in self._taken if not each.signed_in), None)
        if waiting is not None:
            return waiting
        held = Counter(each.who for each in self._taken)
        most = max(held, key=lambda each: held[each])
        if held[most] < held[who] + 2:
            return None
        return next(each for each in reversed(self._taken) if each.who == most)
