"""What was worked out before, as long as there is room for it."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Shelf(Generic[K, V]):
    """Values by key up to a total size; those that were not used for longest go first."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._taken = 0
        self._values: dict[K, tuple[V, int]] = {}

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """The value of a key, if it is still there."""
        found = self._values.get(key)
        return None if found is None else found[0]

    def put(self, key: K, value: V, size: int) -> None:
        """Keep a value, as the one that was used last; its size may have changed since."""
        old = self._values.pop(key, None)
        self._taken += size - (old[1] if old is not None else 0)
        self._values[key] = value, size
        while self._taken > self._room and len(self._values) > 1:
            oldest = next(iter(self._values))
            self._taken -= self._values.pop(oldest)[1]
