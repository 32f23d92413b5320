"""Watching workers, so that nobody waits for one that is gone."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from icebus.bus import Bus, Incoming
from icebus.schemas.components import WorkerState
from icebus.schemas.errors import WorkerLost
from icebus.schemas.liveness import GONE, RETURN_TIME, is_gone, is_late
from icebus.schemas.message import decode
from icebus.schemas.topics import WORKER_STATE

log = logging.getLogger(__name__)

OnLost = Callable[[str, WorkerLost], None]
"""Called on the dispatcher with the worker's id, and why what it had accepted is lost."""


def find_loss(worker: str, before: WorkerState | None, after: WorkerState) -> WorkerLost | None:
    """Why what a worker had accepted is lost, if a change of its state means so."""
    if is_late(before, after):
        return None
    if is_gone(after):
        return WorkerLost(
            f"worker {worker} {GONE[after.state]} with evaluations outstanding; evaluate them "
            "again once `icebus devices` shows the device serving",
            worker=worker,
            how=after.state.value,
        )
    if before is not None and before.session != after.session:
        return WorkerLost(
            f"worker {worker} was restarted with evaluations outstanding; evaluate them again",
            worker=worker,
            how="restarted",
        )
    return None


class Workers:
    """The last known state of the workers that matter to a client."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._lock = threading.Lock()
        self._watched: set[str] = set()
        self._states: dict[str, WorkerState] = {}
        self._losses: dict[str, tuple[float, WorkerLost]] = {}
        self._listeners: list[OnLost] = []

    def watch(self, worker: str) -> None:
        """Follow a worker from now on."""
        with self._lock:
            if worker in self._watched:
                return
            self._watched.add(worker)
        self._bus.subscribe(WORKER_STATE, self._on_state, worker=worker)

    def listen(self, listener: OnLost) -> None:
        """Call ``listener`` when a watched worker is lost."""
        with self._lock:
            self._listeners.append(listener)

    def unlisten(self, listener: OnLost) -> None:
        """Do not call it any more."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def session(self, worker: str) -> str:
        """The session of a worker; empty while unknown."""
        with self._lock:
            state = self._states.get(worker)
        return "" if state is None else state.session

    def problem(self, worker: str) -> WorkerLost | None:
        """Why nothing can be asked of the worker now; None if something can."""
        with self._lock:
            state = self._states.get(worker)
        return None if state is None else find_loss(worker, None, state)

    def recent_loss(self, worker: str) -> WorkerLost | None:
        """Why it is gone or was shortly ago: control may tell of that only when it is back.

        Or when the broker is: what control said while that was away comes only then.
        """
        with self._lock:
            at, loss = self._losses.get(worker, (0.0, None))
        since = max(at, self._bus.connected_at)
        return self.problem(worker) or (loss if time.monotonic() - since < RETURN_TIME else None)

    def _on_state(self, incoming: Incoming) -> None:
        if not incoming.payload:
            return
        worker, after = incoming.ids["worker"], decode(WorkerState, incoming.payload)
        with self._lock:
            before = self._states.get(worker)
            if is_late(before, after):
                return
            self._states[worker] = after
            listeners = list(self._listeners)
        error = find_loss(worker, before, after)
        if error is None or (before is not None and before == after):
            return
        # Whoever waits for what is lost is told with the error, or has it measured elsewhere.
        log.info("a session of worker %s has ended: %s", worker, error.details["how"])
        with self._lock:
            self._losses[worker] = (time.monotonic(), error)
        for listener in listeners:
            listener(worker, error)
