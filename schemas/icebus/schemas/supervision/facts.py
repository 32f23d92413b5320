"""Facts that the health of every program depends on: of this machine, the broker, certificates."""

from __future__ import annotations

import os
from dataclasses import KW_ONLY, dataclass
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


@dataclass(frozen=True)
class ProgramFacts:
    """What is found out about every program that has an account at the broker.

    Attributes:
        name: of its account.
        broker: why the broker could not be asked, or does not take it in; empty otherwise.
        broker_ends: the end of the broker's certificate, as seconds since 1970.
        own_ends: of its own.
        space: of the disk that it writes to; None where that is not this machine's.
        now: by this machine's clock.
        installed: when this program was.
    """

    name: str
    _: KW_ONLY
    broker: str = ""
    broker_ends: float | None = None
    own_ends: float | None = None
    space: Space | None = None
    now: float = 0.0
    installed: float = 0.0


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
