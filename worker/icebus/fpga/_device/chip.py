"""The device as tables: which bits of a bitstream connect which wires.

Built once per process from a chip database (see :mod:`icebus.fpga._device.chipdb`), in a form that
makes decoding a bitstream a matter of its set bits only: every configuration bit belongs to at most
one *item* (a routing switch, or the configuration of a cell) and adds a weight to its value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from icebus.fpga._device import fabric
from icebus.fpga._device.fabric import HEIGHT, WIDTH, cram_index

Int32s = npt.NDArray[np.int32]

LOGIC, IO = "logic", "io"
TILES: Final = WIDTH * HEIGHT

_CELL_INPUT: Final = re.compile(r"lutff_\d/in_\d|lutff_global/")


@dataclass(frozen=True, eq=False)
class ChipDatabase:
    """What a chip database says, in arrays; the one form that every kind of database is read into.

    Attributes:
        path: the file it was read from.
        switch_x, switch_y: tile of each switch.
        switch_bits: (switches, 5, 2) row and column of its bits, most significant first.
        switch_size: number of its bits; 0 for what is not a switch in the fabric.
        pip_switch, pip_value, pip_source, pip_target: the wire that a switch's value connects to
            the switch's target wire.
        wire_x, wire_y, wire_name: tile and name (an index into ``names``) of each wire.
        names: the names of wires inside a tile, such as ``lutff_3/out``.
        tile_kind: kind of each tile, by ``x + 26 y``.
    """

    path: str
    switch_x: Int32s
    switch_y: Int32s
    switch_bits: Int32s
    switch_size: Int32s
    pip_switch: Int32s
    pip_value: Int32s
    pip_source: Int32s
    pip_target: Int32s
    wire_x: Int32s
    wire_y: Int32s
    wire_name: Int32s
    names: list[str]
    tile_kind: list[str]


class Chip:
    """The tables that a decoder needs; one per process, never changed.

    Bits are ranked by their item, so that the ranks of the bits that are set, once sorted, have
    those of an item side by side.

    Item numbers: first the switches, then logic cells, logic tiles, IO tiles, the pads' ways to the
    global networks, and the PLL.
    """

    def __init__(self, database: ChipDatabase) -> None:
        self.path = database.path
        self.names = database.names
        self._wire_name = database.wire_name
        self._wire_x = database.wire_x
        self._wire_y = database.wire_y
        switches = len(database.switch_size)
        self.switches = switches
        self.cells = switches
        self.logic_tiles = self.cells + TILES * 8
        self.io_tiles = self.logic_tiles + TILES
        self.globals = self.io_tiles + TILES
        self.pll = self.globals + 1
        self.bit_item = np.full(fabric.CRAM_BITS, -1, np.int32)
        self.bit_weight = np.zeros(fabric.CRAM_BITS, np.int32)
        self.table_bits = np.full((TILES * 8, 16), -1, np.int32)
        self._place_switches(database)
        self._place_cells(database.tile_kind)
        known = np.flatnonzero(self.bit_item >= 0)
        known = known[np.argsort(self.bit_item[known], kind="stable")]
        self.bit_rank = np.full(fabric.CRAM_BITS, -1, np.int32)
        self.bit_rank[known] = np.arange(len(known))
        self.rank_item = self.bit_item[known]
        self.rank_weight = self.bit_weight[known]
        space = np.where(database.switch_size > 0, 1 << database.switch_size, 0)
        self.pip_base = np.concatenate(([0], np.cumsum(space)[:-1]))
        self.pip_source = np.full(int(space.sum()), -1, np.int32)
        self.pip_source[self.pip_base[database.pip_switch] + database.pip_value] = (
            database.pip_source
        )
        self.switch_target = np.full(switches, -1, np.int32)
        self.switch_target[database.pip_switch] = database.pip_target
        self.wires = len(database.wire_name)
        self.routing = self._routing()

    def _routing(self) -> npt.NDArray[np.uint64]:
        """A mask, for the banks end to end, of all known bits but those of truth tables."""
        routing = self.bit_item >= 0
        routing[self.table_bits[self.table_bits >= 0]] = False
        return np.packbits(routing).view(np.uint64)

    def _place_switches(self, database: ChipDatabase) -> None:
        for size in range(1, 6):
            these = np.flatnonzero(database.switch_size == size)
            x, y = database.switch_x[these], database.switch_y[these]
            for bit in range(size):
                row, column = (
                    database.switch_bits[these, bit, 0],
                    database.switch_bits[these, bit, 1],
                )
                at = cram_index(x, y, row, column)
                self.bit_item[at] = these
                self.bit_weight[at] = 1 << (size - 1 - bit)

    def _place_cells(self, tile_kind: list[str]) -> None:
        kinds = np.array(tile_kind)
        for kind in (LOGIC, IO):
            y, x = np.divmod(np.flatnonzero(kinds == kind), WIDTH)
            tile = x * HEIGHT + y
            if kind == LOGIC:
                for cell in range(8):
                    for weight, label in enumerate(fabric.LC_LABELS):
                        at = cram_index(x, y, 2 * cell + label // 10, 36 + label % 10)
                        self._place(at, self.cells + tile * 8 + cell, weight)
                        if weight < 16:
                            self.table_bits[tile * 8 + cell, weight] = at
                for weight, (row, column) in enumerate(fabric.LOGIC_BITS):
                    self._place(cram_index(x, y, row, column), self.logic_tiles + tile, weight)
            else:
                for weight, (row, column) in enumerate(fabric.IO_BITS):
                    self._place(cram_index(x, y, row, column), self.io_tiles + tile, weight)
        for weight, (bank, column, row) in enumerate(fabric.PAD_TO_GLOBAL):
            at = np.array(fabric.bank_index(bank, column, row))
            self._place(at, self.globals, weight)
        for weight, (x_, y_, row, column) in enumerate(fabric.PLL_TYPE_BITS):
            self._place(cram_index(x_, y_, row, column), self.pll, weight)

    def _place(
        self, at: npt.NDArray[np.int64], item: int | npt.NDArray[np.int64], weight: int
    ) -> None:
        self.bit_item[at] = item
        self.bit_weight[at] = 1 << weight

    def wires_named(self, name: str) -> Int32s:
        """The wire of that name in each tile, by ``32 x + y``; -1 where there is none."""
        slot = self._slots.get(name)
        return np.full(TILES, -1, np.int32) if slot is None else self._wire_of[slot].reshape(-1)

    def by_name(self, of_name: dict[str, int]) -> tuple[Int32s, Int32s]:
        """For each wire, what is given for its name (-1 if nothing is), and its tile."""
        values = np.array([of_name.get(name, -1) for name in self.names], np.int32)
        return values[self._wire_name], self._wire_x * HEIGHT + self._wire_y

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        """Names of the wires into cells, which tiles of hard blocks have instead of their own."""
        return tuple(n for n in self.names if n == "clk" or _CELL_INPUT.match(n))

    @cached_property
    def _slots(self) -> dict[str, int]:
        """Number of each wire name that belongs to a cell, and so to one tile."""
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def _wire_of(self) -> Int32s:
        """(name, x, y) -> wire, -1 where there is none."""
        table = np.full((len(self.names), WIDTH, HEIGHT), -1, np.int32)
        # in reverse: of two wires of one name in one tile the first is the fabric's own
        table[self._wire_name[::-1], self._wire_x[::-1], self._wire_y[::-1]] = np.arange(
            len(self._wire_name) - 1, -1, -1, dtype=np.int32
        )
        return table

    def wire(self, x: int, y: int, name: str) -> int:
        """The wire of that name in that tile, -1 if the tile has none."""
        slot = self._slots.get(name)
        return -1 if slot is None else int(self._wire_of[slot, x, y])

    def place(self, wire: int) -> tuple[int, int, str]:
        """Tile and name of a wire."""
        return (
            int(self._wire_x[wire]),
            int(self._wire_y[wire]),
            self.names[self._wire_name[wire]],
        )
