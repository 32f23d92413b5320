"""Time, and how long a signal takes on a board.

Nobody measured these delays on a board: they are estimates, from what nextpnr-ice40 reports for the
UP5K (1.2 to 1.3 ns a LUT, 1.4 ns from a flip-flop's clock to its output, 0.3 ns a carry, 0.6 to
3.2 ns a net). Plausible, not physical: they don't follow from where a cell lies, nor from
temperature or voltage.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

from icebus.fpga._netlist.netlist import Flop, Gate

if TYPE_CHECKING:
    from icebus.fpga._netlist.netlist import Cell, Netlist

CYCLE: Final = 400
"""Units of time in a cycle of the 48 MHz; one is 52 ps, much less than any LUT takes. Time is
counted in units so that what oscillates comes back to an earlier state exactly, and so few in a
cycle that it does soon."""

HALF: Final = CYCLE // 2

PIO_CLOCK: Final = 128
"""Units in a clock of the microcontroller that counts, which runs at 150 MHz."""

LUT: Final = 1.2
CARRY: Final = 0.3
FLOP: Final = 1.4
"""Nanoseconds of the cells themselves."""

NET: Final = (0.5, 3.0, 0.9)
"""Nanoseconds of the wires behind a cell: least, greatest, most frequent."""

_UNITS_PER_NS: Final = CYCLE * 0.048

_CARRIES: Final = {3: (0xE8,), 2: (0x8, 0xE)}
"""A majority, and what it becomes when one input is constant: a gate that does this is taken to be
part of a carry chain, which a LUT's delay would make much too slow."""


def draw_delays(netlist: Netlist, seed: int) -> list[int]:
    """The delay of each cell of a netlist in units, on the board that ``seed`` stands for."""
    random = Random(seed)
    return [_drawn(cell, random.triangular(*NET)) for cell in netlist.cells]


def _drawn(cell: Cell, net: float) -> int:
    if isinstance(cell, Gate) and cell.table in _CARRIES.get(len(cell.inputs), ()):
        return round(CARRY * _UNITS_PER_NS)
    own = FLOP if isinstance(cell, Flop) else LUT
    return round((own + net) * _UNITS_PER_NS)
