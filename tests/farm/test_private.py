"""Whatever the umask: what a farm keeps on disk is its owner's only."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.farm.conftest import ICEBUS, TIMEOUT, Machine

WALK = """
import os, sys
for folder, folders, files in os.walk(sys.argv[1]):
    for name in [".", *files, *folders]:
        path = os.path.normpath(os.path.join(folder, name))
        mode = os.stat(path).st_mode & 0o777  # of what a link leads to: a board's port is a PTY's
        if mode & 0o077:
            print(oct(mode), path)
print("walked")
"""


def up(machine: Machine, folder: Path, command: Sequence[str], umask: int) -> str:
    done = subprocess.run(
        [*ICEBUS, "up", "--boards", "1", "-d", str(folder), "--", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        env=machine.environment,
        umask=umask,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_given_no_umask_when_a_farm_is_up_then_all_that_it_keeps_is_its_owners_only(
    machine: Machine,
) -> None:
    place = machine.home / "kept"
    said = up(machine, place / "farm", [sys.executable, "-c", WALK, str(place)], umask=0)
    assert said == "walked\n"


def test_given_files_that_others_could_read_when_a_farm_comes_up_then_they_are_narrowed(
    machine: Machine,
) -> None:
    place = machine.home / "farm"
    up(machine, place, ["true"], umask=0o077)
    for folder, _, files in os.walk(place):
        for name in files:
            (Path(folder) / name).chmod(0o666)
        if Path(folder) != place:
            Path(folder).chmod(0o777)
    said = up(machine, place, [sys.executable, "-c", WALK, str(place)], umask=0o022)
    assert said == "walked\n"
