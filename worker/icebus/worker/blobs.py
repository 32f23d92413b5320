"""The files that users have sent and may refer to, newest first, bounded."""

from __future__ import annotations

import threading
from collections import OrderedDict

from icebus.schemas.files import Blob

CAPACITY = 64 << 20
"""Bytes kept, as packed: some thirty thousand typical bitstreams."""


class BlobStore:
    """Blobs by user and hash. Any thread may use it.

    Args:
        capacity: packed bytes to keep; the least recently used go first. What waits in a device's
            queue holds on to its own.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._size = 0
        self._lock = threading.Lock()
        self._blobs: OrderedDict[tuple[str, str], Blob] = OrderedDict()

    def put(self, user: str, sha256: str, packed: bytes, encoding: str) -> None:
        """Keep a file that ``user`` has sent.

        Raises:
            BlobInvalid: the bytes are not what the hash says.
        """
        blob = Blob.received(sha256, packed, encoding)
        with self._lock:
            old = self._blobs.pop((user, sha256), None)
            self._blobs[(user, sha256)] = blob
            self._size += len(packed) - (len(old.packed) if old is not None else 0)
            while self._size > self._capacity:
                _, gone = self._blobs.popitem(last=False)
                self._size -= len(gone.packed)

    def get(self, user: str, sha256: str) -> Blob | None:
        """A file, if this user has sent it: nobody can have another's by guessing its hash."""
        with self._lock:
            blob = self._blobs.get((user, sha256))
            if blob is not None:
                self._blobs.move_to_end((user, sha256))
            return blob
