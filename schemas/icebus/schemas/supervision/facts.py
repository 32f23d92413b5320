"""Facts about this machine that the health of every program depends on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Space:
    """What is left of a disk.

    Attributes:
        path: what was asked about.
        free: bytes that this user may still write there.
        files: that can still be made; None where the file system knows no limit.
        problem: why it could not be found out; empty otherwise.
    """

    path: Path
    free: int = 0
    files: int | None = None
    problem: str = ""


def space_at(path: Path) -> Space:
    """What is left where a file or folder is, or would be made."""
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        found = os.statvfs(place)
    except OSError as error:
        return Space(path, problem=error.strerror or str(error))
    files = found.f_favail if found.f_files else None
    return Space(path, found.f_bavail * found.f_frsize, files)


def installed_at() -> float:
    """When this version was installed, as seconds since 1970; 0 where nobody can tell."""
    try:
        return Path(__file__).stat().st_mtime
    except OSError:
        return 0.0
