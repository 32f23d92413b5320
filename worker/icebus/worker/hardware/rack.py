"""Discovery of virtual boards: watches the directory where a rack keeps them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from icebus.schemas.boards.rack import BoardFile, Mode, read_boards
from icebus.worker.hardware.board import ConnectedBoard, Snapshot

log = logging.getLogger(__name__)

_READING = ("opened", "closed_no_write")
"""What our own scans cause."""


class RackDiscovery:
    """Finds the boards of the rack that runs in a directory.

    Every change of a board has the directory read again as a whole, so a missed event costs nothing
    once the next one comes. Only the directory itself is watched, where the rack touches a board's
    folder whenever the board changes: watchdog 7.1 loses its thread, and so all further news, when
    folders come and go quickly in a tree that it watches recursively.

    Args:
        directory: the rack's; made if missing, so that either side may start first.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()
        self._observer: BaseObserver | None = None
        self._lock = threading.Lock()
        self._last: Snapshot | None = None

    def start(self, on_change: Callable[[Snapshot], None]) -> None:
        """Report all boards now, and again whenever they change."""
        self._directory.mkdir(parents=True, exist_ok=True)
        observer = Observer()
        observer.schedule(
            _Watcher(lambda: self._scan(on_change)), str(self._directory), recursive=False
        )
        observer.start()
        self._observer = observer
        self._scan(on_change)

    def stop(self) -> None:
        """Stop watching."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(timeout=5)

    def _scan(self, on_change: Callable[[Snapshot], None]) -> None:
        with self._lock:  # the first scan and the observer's are on different threads
            found = [_board(self._directory, each) for each in read_boards(self._directory)]
            if found != self._last:
                self._last = found
                on_change(found)


class _Watcher(FileSystemEventHandler):
    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.is_directory and event.event_type not in _READING:
            self._changed()


def _board(directory: Path, found: BoardFile) -> ConnectedBoard:
    folder = directory / found.port
    application = found.mode is Mode.APPLICATION
    return ConnectedBoard(
        path=found.port,
        session=found.session,
        chip=found.chip,
        serial=found.serial if application else None,
        tty=folder / found.tty if found.tty else None,
        drive=folder / found.boot if found.boot else None,
        virtual=True,
        mode=found.mode,
        source=str(directory),
        labels={"emulated": "true"} if found.emulated else {},
        slowness=found.slowness,
        emulated=found.emulated,
    )
