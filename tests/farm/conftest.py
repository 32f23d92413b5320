"""Whole farms, started as users start them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.command_line import Icebus, in_this_process

from icebus.client._profiles.profile import Profile

ICEBUS = [sys.executable, "-m", "icebus.client.cli"]

TIMEOUT = 60.0
"""Seconds within which anything here happens on a busy machine."""


class Machine:
    """A home of its own, in which `icebus` runs."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("ICEBUS_")},
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "TMPDIR": str(home),
        }
        # What script/bootstrap has compiled is used; what it has not, is compiled once.
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    @property
    def default_profile(self) -> Path:
        return self.home / "state" / "icebus" / "profile.json"

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*ICEBUS, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**self.environment, **environment},
        )

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*ICEBUS, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
            env={**self.environment, **environment},
        )

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def up(self, *arguments: str) -> Iterator[Up]:
        """A farm that is up, for as long as the block lasts."""
        process = self.start("up", *arguments)
        try:
            wait_until(lambda: self.default_profile.exists() or process.poll() is not None)
            if process.poll() is not None:
                raise AssertionError(process.communicate()[1])
            yield Up(process, self)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.communicate(timeout=TIMEOUT)


class Up:
    """A farm that is up."""

    def __init__(self, process: subprocess.Popen[str], machine: Machine) -> None:
        self.process = process
        self.machine = machine
        profile = Profile.read(machine.default_profile)
        assert profile.farm is not None
        self.directory = profile.farm
        self.url = profile.url

    def child(self, name: str) -> int:
        """The process id of a part of the farm."""
        found = [pid for pid, line in self.children().items() if name in line]
        assert len(found) == 1, self.children()
        return found[0]

    def children(self) -> dict[int, str]:
        return descendants(self.process.pid)


def descendants(parent: int) -> dict[int, str]:
    """Direct children of a process, and what they run."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, ppid = int(stat.parent.name), int(stat.read_text().rsplit(")", 1)[1].split()[1])
            if ppid == parent:
                line = (stat.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found[pid] = line
    return found


def alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = TIMEOUT) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.02)


@pytest.fixture
def machine(tmp_path: Path, mosquitto: None) -> Machine:
    """A machine on which nothing runs yet."""
    return Machine(tmp_path)


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A farm of three quick boards, shared by the tests of a module."""
    home = tmp_path_factory.mktemp("machine")
    with Machine(home).up(
        "--boards", "3", "--window", "0.05", "--seed", "7", "--user", "ann", "--user", "ben"
    ) as up:
        yield up


@pytest.fixture
def circuits() -> Sequence[Path]:
    """The example circuits, slowest first."""
    folder = Path(__file__).parents[2] / "examples" / "circuits"
    return [folder / f"pulse_{frequency}khz.bin" for frequency in (2, 8, 32)]


@pytest.fixture
def icebus(
    farm: Up, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Icebus]:
    """The command line as ann uses it, in this process: starting one takes most of a second."""
    for name in [name for name in os.environ if name.startswith("ICEBUS_")]:
        monkeypatch.delenv(name)
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, farm.machine.environment[name])
    with in_this_process(monkeypatch, capsys) as run:
        yield run
