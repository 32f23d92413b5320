"""The open FPGA tools: finding them, and running them from Verilog to a bitstream."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from icebus.client.circuits.pulses import CONSTRAINTS, Pulses
from icebus.schemas.deadline import Deadline
from icebus.schemas.errors import IcebusError, InvalidRequest, ProgramMissing
from icebus.schemas.programs.installation import install_extra

PROGRAMS = ("yosys", "nextpnr-ice40", "icepack")

PYPI_PREFIX = "yowasp-"
"""What the same programs are called when they come from PyPI, compiled to WebAssembly."""


TIMEOUT = 600.0
"""Seconds for a circuit. A second is usual; the programs from PyPI compile themselves for half a
minute when they are first used, and several of them do so at once."""

SEED = "1"
"""Of placement, so that the same circuit always gives the same bitstream."""


class BuildFailed(IcebusError):
    """A tool could not build a circuit; the message has the end of what it said."""

    code = "build_failed"


@dataclass(frozen=True)
class Tools:
    """The programs that make a bitstream, as paths."""

    yosys: str
    nextpnr: str
    icepack: str


def install_tools() -> str:
    """What to do where a program is missing."""
    return (
        "install them: `sudo apt-get install yosys nextpnr-ice40 fpga-icestorm` (Debian, Ubuntu), "
        f"or {install_extra('circuit')}"
    )


def find_tools() -> Tools:
    """The programs, each from PATH or else from PyPI.

    Raises:
        ProgramMissing: one is not installed.
    """
    found = {name: _find(name) for name in PROGRAMS}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise ProgramMissing(
            f"{', '.join(missing)}: not installed; {install_tools()}", programs=missing
        )
    return Tools(*(path for path in found.values() if path is not None))


def _find(name: str) -> str | None:
    # An environment that is not activated has its programs beside its Python.
    beside = str(Path(sys.executable).parent)
    return (
        shutil.which(name)
        or shutil.which(PYPI_PREFIX + name)
        or shutil.which(PYPI_PREFIX + name, path=beside)
    )


def build(tools: Tools, circuit: Pulses) -> bytes:
    """The bitstream of a circuit.

    Raises:
        BuildFailed: a tool failed.
    """
    deadline = Deadline.after(TIMEOUT)
    # Relative names throughout: the programs from PyPI see only the directory they run in.
    with tempfile.TemporaryDirectory(prefix="icebus-circuit-") as name:
        place = Path(name)
        (place / "top.v").write_text(circuit.verilog())
        (place / "top.pcf").write_text(CONSTRAINTS)
        for command in (
            [tools.yosys, "-q", "-p", "synth_ice40 -top top -json top.json", "top.v"],
            [
                *(tools.nextpnr, "-q", "--up5k", "--package", "sg48", "--seed", SEED),
                *("--pcf", "top.pcf", "--json", "top.json", "--asc", "top.asc"),
            ],
            [tools.icepack, "top.asc", "top.bin"],
        ):
            _run(command, place, deadline)
        return (place / "top.bin").read_bytes()


def _run(command: Sequence[str], place: Path, deadline: Deadline) -> None:
    program = Path(command[0]).name
    try:
        done = subprocess.run(
            command,
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=deadline.remaining,
        )
    except subprocess.TimeoutExpired:
        raise BuildFailed(f"{program} did not end within {TIMEOUT:.0f} s") from None
    except OSError as error:
        raise BuildFailed(f"{command[0]} can't be run: {error.strerror}") from None
    if done.returncode:
        said = "\n".join(done.stdout.strip().splitlines()[-5:])
        raise BuildFailed(f"{program} failed with code {done.returncode}: {said}")


def build_all(
    tools: Tools, circuits: Iterable[Pulses], directory: Path
) -> Iterator[tuple[Pulses, Path]]:
    """Build circuits, several at once; each is told when its file is written.

    Raises:
        InvalidRequest: the directory can't be written to.
        BuildFailed: a tool failed.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(f"{directory}: {error.strerror}; name another directory") from None
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="build") as pool:
        # Threads only wait: the work is in the tools' processes.
        building = {pool.submit(build, tools, circuit): circuit for circuit in circuits}
        try:
            for done in as_completed(building):
                circuit = building[done]
                yield circuit, _write(directory / f"{circuit.name}.bin", done.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _write(path: Path, data: bytes) -> Path:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:  # never through a link that somebody laid there
            file.write(data)
        temporary.replace(path)
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}; name another directory") from None
    return path
