"""Where the farms that `icebus up` starts on this machine keep their files."""

from __future__ import annotations

import shlex
from pathlib import Path

from platformdirs import user_state_path

from icebus.schemas.programs.file_lock import is_locked


def state_directory() -> Path:
    """Where this user's farm and default profile live."""
    return user_state_path("icebus")


def usual_directory() -> Path:
    """Where a farm is when nothing else is said."""
    return (state_directory() / "farm").absolute()


def how_to_start(farm: Path) -> str:
    """The command that brings up the farm in a directory."""
    if farm == usual_directory():
        return "icebus up"
    return f"icebus up --directory {shlex.quote(str(farm))}"


def profile_path(farm: Path, principal: str) -> Path:
    """The profile of a principal of a farm."""
    return farm / "profiles" / f"{principal}.json"


def lock_path(farm: Path) -> Path:
    """The file that `icebus up` keeps locked while it runs in a farm's directory."""
    return farm / "farm.lock"


def is_up(farm: Path) -> bool:
    """Whether an `icebus up` runs in a directory."""
    return is_locked(lock_path(farm))
