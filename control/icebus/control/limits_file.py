"""The file of limits, read anew when it changes."""

from __future__ import annotations

import logging
from pathlib import Path

from icebus.control.decide.limits import Limits
from icebus.control.settings import read_limits
from icebus.schemas.errors import InvalidRequest

log = logging.getLogger(__name__)

LOOK_INTERVAL = 1.0
"""Seconds between looks at the file."""


class LimitsFile:
    """Limits as their file has them; the last good ones while it has mistakes, logged once.

    Args:
        path: of the file, as it was when control started.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _version(path)
        self._look_at = 0.0

    def changed(self, at: float) -> Limits | None:
        """Other limits than before; None for the same.

        Args:
            at: now, on the monotonic clock.
        """
        if at < self._look_at:
            return None
        self._look_at = at + LOOK_INTERVAL
        version = _version(self._path)
        if version == self._seen:
            return None
        self._seen = version
        try:
            limits = read_limits(self._path)
        except InvalidRequest as error:
            log.warning("the limits stay those of before: %s", error.message)
            return None
        log.info("read the limits in %s again", self._path)
        return limits


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
