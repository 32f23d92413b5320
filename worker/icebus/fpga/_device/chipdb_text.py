"""Reading Project IceStorm's text chip database of the iCE40UP5K, as Debian packages it.

The format is described in the file's own header. 27 MB of text take seconds to read, so this is the
fallback for machines without the binary database.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from icebus.fpga._device.chip import ChipDatabase
from icebus.fpga._device.chipdb_binary import CONNECTIONS, SWITCHES, WIRES, LayoutUnknown
from icebus.fpga._device.fabric import HEIGHT, WIDTH

if TYPE_CHECKING:
    from pathlib import Path

_BIT: Final = re.compile(r"B(\d+)\[(\d+)\]")
_CELL: Final = re.compile(r"(lutff_|io_|ram/|mult/|slf_op_|glb_netwk_|fabout|carry_in)")
"""Names that say what a wire is; a wire has many, most of them those of neighbours' views."""


def read(path: Path) -> ChipDatabase:
    """Read the database at ``path``.

    Raises:
        LayoutUnknown: it is not the database of this device.
        OSError: the file can't be read.
    """
    try:
        text = path.read_text(encoding="ascii")
        return _Reader(text, str(path)).database()
    except (ValueError, IndexError, KeyError) as problem:
        raise LayoutUnknown(f"not the expected layout ({problem})") from problem


class _Reader:
    def __init__(self, text: str, path: str) -> None:
        self.path = path
        self.tile_kind = ["none"] * (WIDTH * HEIGHT)
        self.switches: list[tuple[int, int, int, tuple[tuple[int, int], ...]]] = []
        self.pips: list[int] = []
        self.values: list[int] = []
        self.sources: list[int] = []
        self.wires: list[tuple[int, int, str]] = []
        self._bits: dict[str, tuple[int, int]] = {}
        for block in text.split("\n."):
            head, _, body = block.partition("\n")
            words = head.split()
            if not words:
                continue
            kind = words[0]
            if kind in ("buffer", "routing"):
                self._switch(words, body)
            elif kind == "net":
                self._net(body)
            elif kind.endswith("_tile") and len(words) == 3:
                self.tile_kind[int(words[1]) + WIDTH * int(words[2])] = kind.removesuffix("_tile")
            elif kind == "device" and words[1:4] != ["5k", str(WIDTH), str(HEIGHT)]:
                raise ValueError(f"a database of {' '.join(words[1:4])}")

    def _switch(self, words: list[str], body: str) -> None:
        bits = tuple([self._bit(name) for name in words[4:]])
        self.switches.append((int(words[1]), int(words[2]), int(words[3]), bits))
        fields = body.split()
        self.pips.append(len(fields) // 2)
        self.values.extend([int(value, 2) for value in fields[::2]])
        self.sources.extend(map(int, fields[1::2]))

    def _bit(self, name: str) -> tuple[int, int]:
        if name not in self._bits:
            match = _BIT.fullmatch(name)
            if match is None:
                raise ValueError(f"a bit called {name}")
            self._bits[name] = (int(match[1]), int(match[2]))
        return self._bits[name]

    def _net(self, body: str) -> None:
        fields = body.split()
        names = fields[2::3]
        chosen = next((i for i, name in enumerate(names) if _CELL.match(name)), 0)
        self.wires.append((int(fields[3 * chosen]), int(fields[3 * chosen + 1]), names[chosen]))

    def database(self) -> ChipDatabase:
        counts = (len(self.switches), len(self.sources), len(self.wires))
        if counts != (SWITCHES, CONNECTIONS, WIRES):
            raise ValueError("{} switches, {} connections, {} wires".format(*counts))
        size = np.array([len(bits) for *_, bits in self.switches], np.int32)
        bits = np.zeros((len(size), 5, 2), np.int32)
        for width in range(1, 6):
            these = np.flatnonzero(size == width)
            bits[these, :width] = [self.switches[i][3] for i in these.tolist()]
        if len(self.values) != len(self.sources):
            raise ValueError("a connection without source")
        of_switch = np.repeat(np.arange(len(size), dtype=np.int32), self.pips)
        target = np.array([wire for _, _, wire, _ in self.switches], np.int32)
        names = sorted({name for _, _, name in self.wires})
        number = {name: i for i, name in enumerate(names)}
        return ChipDatabase(
            path=self.path,
            switch_x=np.array([x for x, _, _, _ in self.switches], np.int32),
            switch_y=np.array([y for _, y, _, _ in self.switches], np.int32),
            switch_bits=bits,
            switch_size=size,
            pip_switch=of_switch,
            pip_value=np.array(self.values, np.int32),
            pip_source=np.array(self.sources, np.int32),
            pip_target=target[of_switch],
            wire_x=np.array([x for x, _, _ in self.wires], np.int32),
            wire_y=np.array([y for _, y, _ in self.wires], np.int32),
            wire_name=np.array([number[name] for _, _, name in self.wires], np.int32),
            names=names,
            tile_kind=self.tile_kind,
        )
