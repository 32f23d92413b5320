"""The files that users have sent and may refer to, bounded in all and fair between users."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from icebus.schemas.errors import BlobInvalid
from icebus.schemas.files import MAX_FILE_SIZE, Blob, Unpacking

CAPACITY = 64 << 20
"""Bytes kept, as packed: some thirty thousand typical bitstreams."""

OVERHEAD = 512
"""Bytes that a file takes in memory beside its own, about."""

KEPT_FOR = 600.0
"""Seconds that a file is kept after it was sent or asked for last: twice as long as the broker
keeps one for a worker that is away. Who refers to it later is told to send it again."""


@dataclass
class _Kept:
    packed: bytes
    encoding: str
    at: float
    blob: Blob | None = None
    unpacked: int = 0

    @property
    def size(self) -> int:
        """Bytes it takes."""
        return len(self.packed) + OVERHEAD


@dataclass
class _OfUser:
    blobs: OrderedDict[str, _Kept] = field(default_factory=OrderedDict)
    size: int = 0

    def drop(self, sha256: str) -> int:
        """Forget a file; how many bytes that frees."""
        kept = self.blobs.pop(sha256, None)
        freed = 0 if kept is None else kept.size
        self.size -= freed
        return freed


class BlobStore:
    """Blobs by user and hash. Any thread may use it.

    What is sent is looked at only when it is asked for: to unpack and hash a file can take a
    thousand times as long as to send it, and who sends what he never uses would have that for free.

    Args:
        capacity: bytes to keep. Where they are too many, the user who has most of them loses those
            used least recently, so that nobody's files make room for another's flood. What waits
            in a device's queue holds on to its own.
        clock: seconds that only grow.
    """

    def __init__(
        self, capacity: int = CAPACITY, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._capacity = capacity
        self._clock = clock
        self._size = 0
        self._lock = threading.Lock()
        self._users: dict[str, _OfUser] = {}

    def put(self, user: str, sha256: str, packed: bytes, encoding: str) -> None:
        """Keep a file that ``user`` has sent."""
        kept = _Kept(packed, encoding, self._clock())
        with self._lock:
            self._drop_old(kept.at)
            known = self._users.setdefault(user, _OfUser())
            self._size += kept.size - known.drop(sha256)
            known.blobs[sha256] = kept
            known.size += kept.size
            while self._size > self._capacity:
                most = max(self._users.values(), key=lambda each: each.size)
                self._size -= most.drop(next(iter(most.blobs)))

    def get(self, user: str, sha256: str, unpacking: Unpacking | None = None) -> Blob | None:
        """A file, if this user has sent it: nobody can have another's by guessing its hash.

        Args:
            user: who has sent it.
            sha256: the hash of its bytes.
            unpacking: bounds what is unpacked, or is going to be.

        Raises:
            BlobInvalid: the bytes sent are not what the hash says; they are kept no longer.
            QueueFull: they are too many.
        """
        kept = self._find(user, sha256)
        if kept is None:
            return None
        unpacking = unpacking or Unpacking(MAX_FILE_SIZE)
        if kept.blob is not None:
            unpacking.count(kept.unpacked)
            return kept.blob
        try:
            data = unpacking.unpack(kept.packed, kept.encoding)
            kept.blob = Blob.received(sha256, kept.packed, kept.encoding, data)
        except BlobInvalid:
            with self._lock:
                if user in self._users:
                    self._size -= self._users[user].drop(sha256)
            raise
        kept.unpacked = len(data)
        return kept.blob

    def _find(self, user: str, sha256: str) -> _Kept | None:
        with self._lock:
            known = self._users.get(user)
            kept = None if known is None else known.blobs.get(sha256)
            if known is None or kept is None:
                return None
            kept.at = self._clock()
            known.blobs.move_to_end(sha256)
            return kept

    def _drop_old(self, now: float) -> None:
        for user, known in list(self._users.items()):
            while known.blobs and now - next(iter(known.blobs.values())).at > KEPT_FOR:
                self._size -= known.drop(next(iter(known.blobs)))
            if not known.blobs:
                del self._users[user]
