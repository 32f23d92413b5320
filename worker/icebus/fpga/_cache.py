"""A cache of bounded size."""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class SizedCache(Generic[K, V]):
    """Values by key up to a total size; the least recently used go first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._size = 0
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
        self._size += size - (old[1] if old is not None else 0)
        self._values[key] = value, size
        while self._size > self._capacity and len(self._values) > 1:
            oldest = next(iter(self._values))
            self._size -= self._values.pop(oldest)[1]
