"""Which farms run on this machine: each says so in a file in its directory, found by a register.

Whether one runs is the kernel's word, a lock that ends with the process that holds it; what the
file says besides counts only while it is held.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from icebus.client._profiles.farm_directory import (
    how_to_start,
    is_up,
    lock_path,
    state_directory,
    usual_directory,
)
from icebus.schemas.errors import Conflict, Forbidden, NoProfile
from icebus.schemas.programs.private_files import make_private_folder, write_private


class RunningFarm(BaseModel):
    """A farm that runs, or ran.

    Attributes:
        directory: where everything of it is.
        pid: of the `icebus up`.
        began: when that process was started, on the kernel's clock; 0 where that is not known. With
            the pid it names one process, also after another got the same pid.
        since: when it was brought up.
        ready: whether all boards were ready by now.
        boards: how many virtual ones, the emulated included.
        usb: whether it has those on USB.
        users: who may reserve; the first is meant by default.
        broker: its host and port.
        log: where a farm in the background tells what happens.
        notes: what whoever started it should know.
    """

    model_config = ConfigDict(frozen=True)

    directory: Path
    pid: int
    began: int
    since: datetime
    ready: bool
    boards: int
    usb: bool
    users: tuple[str, ...]
    broker: str
    log: Path | None
    notes: tuple[str, ...] = ()

    @property
    def runs(self) -> bool:
        """Whether it does."""
        return is_up(self.directory) and started_at(self.pid) == self.began

    @property
    def ended(self) -> bool:
        """Whether its process is gone: it lets go of its directory a moment before that."""
        return not self.runs and (self.began == 0 or started_at(self.pid) != self.began)


def farm_file(directory: Path) -> Path:
    """Where a farm says that it runs."""
    return directory / "farm.json"


def started_at(pid: int) -> int:
    """When a process was started, in ticks since the machine was; 0 where nobody tells.

    Nor of one that has ended and that nobody has asked for its exit code yet.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = stat.rpartition(")")[2].split()
    return 0 if fields[0] == "Z" else int(fields[19])


def tell(farm: RunningFarm) -> None:
    """Say that a farm runs, for `icebus status` and `down`. Best effort: it runs all the same."""
    with contextlib.suppress(OSError):
        write_private(farm_file(farm.directory), farm.model_dump_json(indent=2) + "\n")
        register = _entry(farm.directory)
        make_private_folder(register.parent)
        write_private(register, f"{farm.directory}\n")


def forget(directory: Path) -> None:
    """It does not run any more, or not yet."""
    for path in (farm_file(directory), _entry(directory)):
        with contextlib.suppress(OSError):
            path.unlink()


def read(directory: Path) -> RunningFarm | None:
    """What the farm in a directory says of itself; None while it says nothing.

    Raises:
        Forbidden: it is another account's.
    """
    try:
        return RunningFarm.model_validate_json(farm_file(directory).read_bytes())
    except PermissionError:
        raise Forbidden(
            f"the farm in {directory} is another account's, and only that may look into it or take "
            "it down"
        ) from None
    except (OSError, ValidationError):
        return None


def running_farms() -> list[RunningFarm]:
    """All that this account runs on this machine, the usual one first."""
    usual = usual_directory()
    found = {}
    for directory in (usual, *_registered()):
        with contextlib.suppress(Forbidden):
            farm = read(directory)
            if farm is not None and farm.runs:
                found[farm.directory] = farm
            elif directory != usual:
                _forget_entry(directory)
    return list(found.values())


def find_farm(named: str | None) -> RunningFarm:
    """The farm that is meant.

    Args:
        named: its directory, or the last part of that; None for the one that runs.

    Raises:
        NoProfile: it does not run.
        Conflict: several are called so, or run, or it starts just now.
        Forbidden: it is another account's.
    """
    running = running_farms()
    if named is None:
        farms = [each for each in running if each.directory == usual_directory()] or running
    else:
        farms = [each for each in running if each.directory.name == named]
        directory = Path(named).absolute()
        if not farms or os.sep in named:
            farms = [found] if (found := _at(directory)) is not None else []
    if len(farms) > 1:
        listed = ", ".join(str(each.directory) for each in farms)
        raise Conflict(f"several farms are up: name the directory of one of {listed}")
    if not farms:
        others = ", ".join(str(each.directory) for each in running)
        there = f"; up are {others}" if others else ""
        which = f"no farm is up in {named!r}" if named else "no farm is up on this machine"
        up = "icebus up" if named is None else how_to_start(Path(named).absolute())
        raise NoProfile(f"{which}{there}; `{up} --detach` brings one up")
    return farms[0]


def end(farm: RunningFarm) -> None:
    """Tell a farm to end, in good order.

    Raises:
        Forbidden: it is another account's.
    """
    if not farm.runs:
        return
    try:
        os.kill(farm.pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError:
        raise Forbidden(f"the farm in {farm.directory} is another account's") from None


def _at(directory: Path) -> RunningFarm | None:
    """The farm that runs in a directory; None when none does."""
    farm = read(directory)
    if farm is not None and farm.runs:
        return farm
    if _has_lock(directory) and is_up(directory):
        raise Conflict(f"the farm in {directory} is only just starting, or ending; try again")
    return None


def _has_lock(directory: Path) -> bool:
    try:
        return lock_path(directory).exists()
    except OSError:  # its name is too long, for instance
        return False


def _registered() -> Iterator[Path]:
    for entry in sorted(_register().glob("*.farm")):
        with contextlib.suppress(OSError):
            yield Path(entry.read_text().removesuffix("\n"))


def _register() -> Path:
    return state_directory() / "farms"


def _entry(directory: Path) -> Path:
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    return _register() / f"{name}.farm"


def _forget_entry(directory: Path) -> None:
    """One that was killed could not take its entry back."""
    with contextlib.suppress(OSError):
        _entry(directory).unlink()
