"""Tells systemd that a program lives, for as long as its loops turn."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial

from icebus.schemas.deadline import Deadline
from icebus.schemas.supervision.systemd import ServiceManager

log = logging.getLogger(__name__)

STATUS_INTERVAL = 5.0
"""Seconds between looks at what is to be shown as status."""

PART = 4
"""Part of the watchdog's time between signs of life: systemd advises half at most."""

Turn = Callable[[], None]
Post = Callable[[Turn], None]
"""Has a loop run something at its next turn, from any thread, and does not wait for it. It may
raise anything when it can't be asked now, and is asked again."""


class Watchdog:
    """Asks each loop to turn, and says that we live when all have since it was last said.

    A loop that hangs lets the watchdog of systemd lapse, which then restarts the program: nothing
    else would.

    Args:
        manager: who is told.
        loops: by name, how each is asked.
        status: what ``systemctl status`` shows; must not wait for anything.
    """

    def __init__(
        self, manager: ServiceManager, loops: Mapping[str, Post], status: Callable[[], str]
    ) -> None:
        self._manager = manager
        self._loops = loops
        self._status = status
        limit = manager.watchdog
        self.interval = STATUS_INTERVAL if limit is None else min(STATUS_INTERVAL, limit / PART)
        """Seconds between turns of :meth:`check`."""
        self._lock = threading.Lock()
        self._waiting: frozenset[str] = frozenset()
        self._unasked: frozenset[str] = frozenset()
        self._asked_at = 0.0
        self._complained = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Say that the program is ready, and mind it until :meth:`stop`."""
        if self._manager.there:
            self._manager.ready(self._what())
            self._ask_all()
            self._thread.start()

    def stop(self, deadline: Deadline) -> None:
        """Say that the program ends. Its end is bounded by ``TimeoutStopSec``."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(deadline.remaining)
        self._manager.stopping()

    def check(self) -> None:
        """Say that we live, if all loops have turned, and ask them again."""
        self._manager.status(self._what())
        with self._lock:
            waiting = sorted(self._waiting)
        if not waiting:
            self._complained = False
            self._manager.alive()
            self._ask_all()
            return
        self._ask(self._unasked)
        waited = time.monotonic() - self._asked_at
        if not self._complained and waited >= 2 * self.interval:
            self._complained = True
            log.error("%s: not turned for %.0f s", ", ".join(waiting), waited)

    def _ask_all(self) -> None:
        with self._lock:
            self._waiting = frozenset(self._loops)
            self._asked_at = time.monotonic()
        self._ask(self._waiting)

    def _ask(self, names: frozenset[str]) -> None:
        failed = set()
        for name in names:
            try:
                self._loops[name](partial(self._turned, name))
            except Exception as error:  # noqa: BLE001 (it does not turn, whatever the reason)
                log.debug("can't ask %s whether it turns: %s", name, error)
                failed.add(name)
        self._unasked = frozenset(failed)

    def _turned(self, name: str) -> None:
        with self._lock:
            self._waiting = self._waiting - {name}

    def _what(self) -> str:
        try:
            return self._status()
        except Exception:
            log.exception("can't say what we do")
            return ""

    def _run(self) -> None:
        while not self._stop.wait(self.interval):
            self.check()
