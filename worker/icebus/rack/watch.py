"""Notices changes of directories (inotify, through watchdog) and tells the loop."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

if TYPE_CHECKING:
    from watchdog.observers.api import ObservedWatch

    from icebus.rack.loop import Loop

_LOG = logging.getLogger(__name__)

_JOIN_SECONDS: Final = 5.0


FileCallback = Callable[[Path, bool], None]
"""``(path, finished)``: finished if the file's writer has closed it; otherwise it has appeared, and
may be whole (if renamed to there) or have more to come."""


class DirectoryWatch:
    """Calls back on the loop's thread when there is news of a file in a watched directory."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._observer = Observer()

    def start(self) -> None:
        """Start the observing threads; :meth:`stop` ends them."""
        self._observer.start()

    def stop(self) -> None:
        """Stop and join the observing threads."""
        self._observer.stop()
        self._observer.join(_JOIN_SECONDS)
        if self._observer.is_alive():
            _LOG.error("the file observer did not stop")

    def add(self, directory: Path, callback: FileCallback) -> ObservedWatch:
        """Watch the files directly in ``directory``; complete when this returns."""
        handler = _Handler(self._loop, callback)
        return self._observer.schedule(handler, str(directory), recursive=False)

    def remove(self, watch: ObservedWatch) -> None:
        """Stop watching; to be called before the directory is removed."""
        self._observer.unschedule(watch)


class _Handler(FileSystemEventHandler):
    """Runs on watchdog's threads, so it only enqueues."""

    def __init__(self, loop: Loop, callback: FileCallback) -> None:
        self._loop = loop
        self._callback = callback

    def on_closed(self, event: FileSystemEvent) -> None:
        self._tell(event.src_path, finished=True)

    def on_created(self, event: FileSystemEvent) -> None:
        self._tell(event.src_path, finished=False)

    def on_moved(self, event: FileSystemEvent) -> None:
        self._tell(event.dest_path, finished=False)

    def _tell(self, path: str | bytes, *, finished: bool) -> None:
        self._loop.call_threadsafe(partial(self._callback, Path(os.fsdecode(path)), finished))
