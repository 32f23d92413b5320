"""Device files that must not be opened."""

from __future__ import annotations

import os
from pathlib import Path

from watchdog.events import FileOpenedEvent, FileSystemEventHandler
from watchdog.observers import Observer


class Untouchable(FileSystemEventHandler):
    """A serial port that knows whether anybody has opened it."""

    def __init__(self) -> None:
        self._master, slave = os.openpty()
        self.path = Path(os.ttyname(slave))
        os.close(slave)
        self.opened = False
        self._observer = Observer()
        self._observer.schedule(self, str(self.path), event_filter=[FileOpenedEvent])
        self._observer.start()

    def on_opened(self, event: object) -> None:
        """Somebody has."""
        self.opened = True

    def close(self) -> None:
        self._observer.stop()
        self._observer.join()
        os.close(self._master)
