"""Which broker runs on a directory: one at most, told by a lock that ends with its process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import Conflict
from icebus.schemas.programs.file_lock import lock
from icebus.schemas.programs.private_files import make_private_folder, open_private

LOCK_TIMEOUT = 0.5
"""Seconds to wait for a directory: a broker that was just killed is still going, and whoever asks
whether one runs holds the lock for a moment."""


class Claim:
    """The claim of a running broker to a directory.

    Args:
        path: the directory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self) -> int:
        """A descriptor for the broker to inherit; while it is open, the directory is taken.

        Raises:
            Conflict: another broker runs on this directory.
            InvalidRequest: its lock is a link, or otherwise not a file.
        """
        make_private_folder(self._path)
        descriptor = open_private(self._path / "broker.pid")
        if not lock(descriptor, Deadline.after(LOCK_TIMEOUT)):
            os.close(descriptor)
            raise self.in_use()
        os.ftruncate(descriptor, 0)  # what stands there is the number of one that has ended
        return descriptor

    def in_use(self) -> Conflict:
        """The error for whoever needs the directory while a broker runs on it."""
        return Conflict(
            f"a broker runs on {self._path} already (pid {self.pid}); stop it, or choose another "
            "directory"
        )

    def record(self, descriptor: int, pid: int) -> None:
        """Note the pid of the broker that has inherited the lock: it may be told things."""
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{pid}\n".encode(), 0)

    @property
    def pid(self) -> int | None:
        """The pid of the broker that runs on this directory, or None."""
        try:
            descriptor = os.open(self._path / "broker.pid", os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            # The lock, not the number, says whether it lives: numbers are used again.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.read(descriptor, 32).decode(errors="replace").strip()
            return int(text) if text.isdecimal() else None
        else:
            return None
        finally:
            os.close(descriptor)
