"""What drives each wire behind all switches, as numbers, in tables of the whole device.

A *net* is the wires that switches connect, and its *driver* the output of a cell, a pad or a
constant. Drivers are numbers: the first ones are constants, the clock, and what only
:mod:`icebus.fpga._netlist.extract` understands; the others are outputs of logic cells (``base +
cell``, the cell being ``8 tile + z``, the tile ``32 x + y``) and what belongs to a tile or to the
device.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from icebus.fpga._device import fabric
from icebus.fpga._device.chip import TILES
from icebus.fpga._netlist.netlist import ZERO

if TYPE_CHECKING:
    from icebus.fpga._device.chip import Chip, Int32s
    from icebus.fpga._netlist.decode import Design

SPECIAL: Final = 3
"""Pads, hard primitives, contended wires and rings of wires."""
GLOBAL: Final = 8
"""The first of the eight global networks."""
CLOCK_INPUT: Final = 16
"""The unregistered input of the clock's pad."""
OUT: Final = 1 << 16
LUT: Final = 2 << 16
CARRY: Final = 3 << 16
CARRY_SET: Final = 4 << 16
"""Carry into a tile from its own configuration."""
KIND: Final = 0xF_0000
CELL: Final = 0xFFFF

_DOUBLINGS: Final = 17
"""After these, what still has a driver goes round in a ring: there are fewer than 2**17 wires."""

_PRIMITIVES: Final = ("ram/", "mult/", "dsp/", "slf_op_", "io_")


class NetDrivers:
    """Tables made from a chip once.

    Attributes:
        pins: wires of the four inputs of each logic cell, then clock, enable and reset.
        carry_in: the wire of the carry into each tile.
        networks: the wires that drive the global networks.
    """

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        cells = np.arange(TILES * 8)
        tile = cells >> 3
        self.pins = np.full((TILES * 8, 7), -1, np.int32)
        for z in range(8):
            for pin in range(4):
                self.pins[z::8, pin] = chip.wires_named(f"lutff_{z}/in_{pin}")
        for pin, name in enumerate(("clk", "cen", "s_r"), start=4):
            self.pins[:, pin] = chip.wires_named(f"lutff_global/{name}")[tile]
        self.pins[self.pins < 0] = chip.wires + 1  # no switch drives that
        self.carry_in = chip.wires_named("carry_in_mux")
        self.networks = np.array(
            [chip.wire(x, y, "fabout") for x, y in fabric.GLOBAL_FABRIC], np.int32
        )
        self._of_wire = self._drivers_by_wire()
        # scratch, as it was between calls: the wire that each wire is driven by
        self._driver = np.full(chip.wires + 2, -1, np.int32)

    @cached_property
    def table_byte(self) -> Int32s:
        """Where in the banks each row of each cell's truth table is: the byte."""
        return np.maximum(self._chip.table_bits, 0) >> 3

    @cached_property
    def table_shift(self) -> Int32s:
        """The bit in that byte."""
        return 7 - (np.maximum(self._chip.table_bits, 0) & 7)

    def _drivers_by_wire(self) -> Int32s:
        of_name: dict[str, int] = {"carry_in_mux": CARRY_SET}
        for z in range(8):
            of_name |= {f"lutff_{z}/out": OUT + z, f"lutff_{z}/lout": LUT + z}
            of_name[f"lutff_{z}/cout"] = CARRY + z
            of_name[f"glb_netwk_{z}"] = GLOBAL + z
        for name in self._chip.names:
            if name.startswith(_PRIMITIVES):
                of_name[name] = SPECIAL
        net_driver, tile = self._chip.by_name(of_name)
        in_tile = net_driver >= OUT
        net_driver[in_tile] += tile[in_tile] << 3
        net_driver[net_driver < 0] = ZERO
        x, y, block = fabric.CLOCK_PAD
        net_driver[self._chip.wire(x, y, f"io_{block}/D_IN_0")] = CLOCK_INPUT
        return np.append(net_driver, np.array([SPECIAL, ZERO], np.int32))

    def resolve(self, design: Design, wires: Int32s, undriven: Int32s) -> Int32s:
        """What drives the net of each wire; what ``undriven`` says if no switch drives it."""
        driver, targets, sources = self._driver, design.targets, design.sources
        special = self._chip.wires
        try:
            driver[targets] = sources
            driver[targets[driver[targets] != sources]] = special  # driven from several sides
            # Every driven wire points one switch further up, then two, four, ...
            ends = driver[targets]
            for _ in range(_DOUBLINGS):
                further = driver[ends]
                on = further >= 0
                if not on.any():
                    break
                ends = np.where(on, further, ends)
                driver[targets] = ends
            else:
                ends[on] = special  # rings
                driver[targets] = ends
            driven = driver[wires]
            return np.where(driven >= 0, self._of_wire[driven], undriven)
        finally:
            driver[targets] = -1
