"""Locks on files, which the kernel lets go of when the process that holds one ends."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path
from typing import Final

from icebus.schemas.deadline import Deadline

_PAUSE: Final = 0.01
"""Seconds between attempts: nothing wakes whoever waits for a lock only so long."""


def lock(descriptor: int, deadline: Deadline) -> bool:
    """Lock an open file; False when somebody else holds it until the deadline."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if deadline.expired:
                return False
            threading.Event().wait(_PAUSE)
        else:
            return True


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock on a file; nobody does on one that can't be opened."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
