"""Hooks: functions and handlers that users register, run on one thread of the client's own."""

from __future__ import annotations

import logging
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from pydantic import JsonValue

from icebus.client._handlers import EventHandler
from icebus.schemas.calls import RawEvent
from icebus.schemas.deadline import Deadline

log = logging.getLogger(__name__)

REMEMBERED = 8192
"""Events remembered, so that none that comes again runs the hooks again."""


@dataclass(frozen=True)
class ReceivedEvent:
    """An event of a kind that the client has no class for.

    Attributes:
        name: of the event.
        reservation: it was sent to.
        serial: of the device it concerns; ``all`` for the whole reservation.
        sender: a worker's id, or ``control``.
        data: as it was sent.
        at: when it was sent.
    """

    name: str
    reservation: str
    serial: str
    sender: str
    data: dict[str, JsonValue]
    at: datetime


def event_key(
    name: str, reservation: str, serial: str, sender: str, event: RawEvent
) -> tuple[object, ...]:
    """What tells an event that comes again from the next one."""
    return (name, reservation, sender, serial, event.sequence, event.at)


Hook = Callable[[Any], object]
F = TypeVar("F", bound=Hook)


class HookRunner:
    """Runs users' hooks, on a thread of its own.

    A hook may take its time and may call the client; what it raises is logged, were it
    ``SystemExit``: the program that it would end is not on this thread. Its thread is not
    the bus's, so a slow hook delays other hooks only.
    """

    def __init__(self, name: str) -> None:
        self._lock = threading.Lock()
        self._handlers: list[EventHandler] = []
        self._functions: dict[str, list[Hook]] = {}
        self._seen: OrderedDict[Hashable, None] = OrderedDict()
        self._queue: queue.SimpleQueue[tuple[Hook, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"hooks-{name}", daemon=True)
        self._thread.start()

    def add_handler(self, handler: EventHandler) -> None:
        """Have the handler's hooks called from now on."""
        with self._lock:
            self._handlers.append(handler)

    def add(self, event: str, hook: Hook) -> None:
        """Have ``hook`` called for every event of that name from now on."""
        with self._lock:
            self._functions.setdefault(event, []).append(hook)

    def has(self, event: str) -> bool:
        """Whether there is a hook for events of that name."""
        with self._lock:
            return bool(self._hooks(event))

    def run(self, event: str, data: object, key: Hashable) -> None:
        """Run the hooks of ``event`` with ``data`` soon, once for each ``key``."""
        with self._lock:
            if key in self._seen:
                return
            self._seen[key] = None
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
            for hook in self._hooks(event):
                self._queue.put((hook, data))

    def _hooks(self, event: str) -> list[Hook]:
        handlers = [each.hook(event) for each in self._handlers]
        return [h for h in handlers if h is not None] + self._functions.get(event, [])

    def close(self, deadline: Deadline) -> None:
        """Run what has been asked for so far, and end the thread."""
        self._queue.put(None)
        if threading.current_thread() is self._thread:
            return
        self._thread.join(timeout=deadline.remaining)
        if self._thread.is_alive():
            log.warning("a hook of the user's did not end in time; its thread is left behind")

    def _run(self) -> None:
        while (task := self._queue.get()) is not None:
            hook, data = task
            try:
                hook(data)
            except BaseException:
                log.exception("a hook failed on %s", type(data).__name__)
