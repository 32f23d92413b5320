"""Measurements that wait, with their encoded bitstreams, first come first served.

The bitstreams lie in a ring of bytes, each in one piece: what does not fit before the end is put at
the beginning. What is kept here is where they would lie on a board.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from icebus.rack.firmware.framed.limits import QUEUE_BYTES, QUEUE_LENGTH

if TYPE_CHECKING:
    from icebus.rack.firmware.framed.measurements import Measurement


@dataclass(frozen=True, slots=True)
class Place:
    """Where an encoded bitstream lies in the ring."""

    start: int
    size: int

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.start + self.size


class Queue:
    """The queue of one board."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Measurement, Place]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def measurements(self) -> list[Measurement]:
        """All that wait, in order."""
        return [measurement for measurement, _ in self._waiting]

    @property
    def free_bytes(self) -> int:
        """Of the longest encoded bitstream that there is room for."""
        if len(self._waiting) == QUEUE_LENGTH:
            return 0
        if not self._waiting:
            return QUEUE_BYTES
        used_from, used_to = self._used
        # One byte stays free, so that a full ring does not look like an empty one.
        if used_to <= used_from:
            return max(used_from - used_to - 1, 0)
        return max(QUEUE_BYTES - used_to, used_from - 1, 0)

    def reserve(self, size: int) -> Place | None:
        """Where an encoded bitstream of that size goes; ``None`` if there is no room.

        It becomes part of the queue by :meth:`add`, and is forgotten otherwise.
        """
        if len(self._waiting) == QUEUE_LENGTH:
            return None
        if not self._waiting:
            return Place(0, size) if size <= QUEUE_BYTES else None
        used_from, used_to = self._used
        if used_to > used_from:
            if size <= QUEUE_BYTES - used_to:
                return Place(used_to, size)
            used_to = 0
        return Place(used_to, size) if size < used_from - used_to else None

    def add(self, measurement: Measurement, place: Place) -> None:
        """Let a measurement wait, whose bitstream was put where :meth:`reserve` said."""
        self._waiting.append((measurement, place))

    def remove_first(self) -> Measurement:
        """The one that has waited the longest."""
        return self._waiting.popleft()[0]

    def clear(self) -> None:
        """Forget them all."""
        self._waiting.clear()

    @property
    def _used(self) -> tuple[int, int]:
        return self._waiting[0][1].start, self._waiting[-1][1].end
