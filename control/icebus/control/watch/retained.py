"""What the broker retains of what controls published, whichever of them did. In memory."""

from __future__ import annotations

import threading


class RetainedTopics:
    """Names of retained topics that are not empty.

    Whoever begins to lead finds among them what the leader before it had no time to clear. They are
    noted as the broker tells of them, on the bus's thread, and read on another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._documents: set[str] = set()
        self._desired: set[tuple[str, str]] = set()
        self._claims: set[str] = set()

    def on_document(self, reservation: str, *, empty: bool) -> None:
        """The document of a reservation was written, or cleared."""
        with self._lock:
            (self._documents.discard if empty else self._documents.add)(reservation)

    def on_desired(self, worker: str, serial: str, *, empty: bool) -> None:
        """What is desired of a device was written, or cleared."""
        with self._lock:
            (self._desired.discard if empty else self._desired.add)((worker, serial))

    def on_claim(self, serial: str, *, empty: bool) -> None:
        """The alarm that several workers claim a device was written, or cleared."""
        with self._lock:
            (self._claims.discard if empty else self._claims.add)(serial)

    @property
    def documents(self) -> set[str]:
        """Reservations."""
        with self._lock:
            return set(self._documents)

    @property
    def desired(self) -> set[tuple[str, str]]:
        """Workers and serials."""
        with self._lock:
            return set(self._desired)

    @property
    def claims(self) -> set[str]:
        """Serials."""
        with self._lock:
            return set(self._claims)
