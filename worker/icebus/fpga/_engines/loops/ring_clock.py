"""Circuits that a free-running loop of gates clocks.

A loop that nothing else drives oscillates on its own. If one signal of it clocks all the rest, the
rest is a circuit that follows a clock, of another frequency: how many edges that has is found by
simulating the loop alone, and what the rest makes of so many edges is exact. So a slow divider of a
ring oscillator can be counted, which no simulation with delays would reach the first pulse of.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from icebus.fpga._engines.loops.latches import loops_of
from icebus.fpga._netlist.netlist import CLOCK, FIRST, Flop, Gate, Netlist

if TYPE_CHECKING:
    from icebus.fpga._netlist.netlist import Cell


def split_ring_clock(netlist: Netlist) -> tuple[int, Netlist] | None:
    """A loop's signal, and the rest with that for a clock; nothing if there is no such loop."""
    loops = loops_of(netlist)
    if len(loops) != 1 or CLOCK in {netlist.output, *_inputs_of(netlist.cells)}:
        return None
    (loop,) = loops
    inside = set(loop)
    if any(i >= FIRST and i not in inside for m in loop for i in netlist.cells[m - FIRST].inputs):
        return None
    rest = [cell for i, cell in enumerate(netlist.cells) if FIRST + i not in inside]
    taps = inside.intersection({netlist.output, *_inputs_of(rest)})
    if len(taps) != 1 or netlist.output in taps or not any(isinstance(c, Flop) for c in rest):
        return None
    (tap,) = taps
    cells = tuple(
        Gate(0, ()) if FIRST + i in inside else _clocked(cell, tap)
        for i, cell in enumerate(netlist.cells)
    )
    return tap, Netlist(cells, netlist.output, netlist.contention)


def _inputs_of(cells: list[Cell] | tuple[Cell, ...]) -> set[int]:
    return {i for cell in cells for i in cell.inputs}


def _clocked(cell: Cell, tap: int) -> Cell:
    """The cell with the clock where the loop's signal was."""
    if isinstance(cell, Gate):
        return Gate(cell.table, tuple(CLOCK if i == tap else i for i in cell.inputs))
    if isinstance(cell, Flop):
        clock, data, enable, reset = (CLOCK if i == tap else i for i in cell.inputs)
        return replace(cell, clock=clock, data=data, enable=enable, reset=reset)
    return cell
