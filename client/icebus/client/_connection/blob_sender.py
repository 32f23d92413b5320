"""Sending files' bytes to workers, once to each."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable

from icebus.bus import Bus
from icebus.client._connection.worker_loss import Workers
from icebus.schemas.files import ENCODING_PROPERTY, Blob
from icebus.schemas.topics import BLOB

REMEMBERED = 256
"""Blobs per worker that we take it to hold still; `blob_missing` says otherwise."""


class BlobSender:
    """Publishes blobs and remembers which worker has which."""

    def __init__(self, bus: Bus, user: str, workers: Workers) -> None:
        self._bus = bus
        self._user = user
        self._workers = workers
        self._lock = threading.Lock()
        self._sent: dict[str, tuple[str, OrderedDict[str, None]]] = {}

    def send(self, worker: str, blobs: Iterable[Blob]) -> None:
        """See that the worker has or gets the blobs before what is sent to it next.

        Raises:
            MessageTooLarge: the broker does not take so much at once.
        """
        for blob in blobs:
            if self._is_new(worker, blob.sha256):
                self._bus.publish(
                    BLOB(worker=worker, user=self._user, sha256=blob.sha256),
                    blob.packed,
                    properties={ENCODING_PROPERTY: blob.encoding},
                )

    def forget(self, worker: str) -> None:
        """The worker has not got what we thought: send everything again."""
        with self._lock:
            self._sent.pop(worker, None)

    def _is_new(self, worker: str, sha256: str) -> bool:
        session = self._workers.session(worker)
        with self._lock:
            known, sent = self._sent.get(worker, ("", OrderedDict[str, None]()))
            if known and session and known != session:
                sent = OrderedDict()
            self._sent[worker] = (session or known, sent)
            new = sha256 not in sent
            sent[sha256] = None
            sent.move_to_end(sha256)
            while len(sent) > REMEMBERED:
                sent.popitem(last=False)
        return new
