"""Where the farms that `icebus up` starts on this machine keep their files."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from platformdirs import user_state_path


def state_directory() -> Path:
    """Where this user's farm and default profile live."""
    return user_state_path("icebus")


def profile_path(farm: Path, principal: str) -> Path:
    """The profile of a principal of a farm."""
    return farm / "profiles" / f"{principal}.json"


def lock_path(farm: Path) -> Path:
    """The file that `icebus up` keeps locked while it runs in a farm's directory."""
    return farm / "farm.lock"


def is_up(farm: Path) -> bool:
    """Whether an `icebus up` runs in a directory."""
    try:
        descriptor = os.open(lock_path(farm), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
