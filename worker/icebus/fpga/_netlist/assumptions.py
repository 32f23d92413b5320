"""What is taken for signals that nothing in a bitstream decides, and what is told of it.

A circuit may follow a pin that only a lab could drive, an output may have nothing that leads to it,
and a hard block may be left idle. Such a signal never changes on its own, so that it is a constant;
but which one, the bitstream does not say, and a count that depends on it is not exact.

* Pins read 1, as the weak pull-ups of the iCE40 make unconnected ones.
* Outputs are 0, as Project IceStorm's icebox_vlog has it.
* Hard blocks give 0. The output register of a block RAM is only written when its read port is
  clocked while enabled; what it holds before, Lattice's memory usage guide does not say. What other
  blocks give that get neither clock nor input is not documented either (*unverified*).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from icebus.fpga._device import fabric
from icebus.fpga._device.hard_blocks import BLOCK_RAM, HardBlock, idle_when, input_tiles_of
from icebus.fpga._netlist.extract import INPUT, NOTHING, TRISTATE, Extraction
from icebus.fpga._netlist.netlist import FIRST, ONE, ZERO, BlackBox, Cell, Gate, Netlist
from icebus.fpga._netlist.simplify import simplify

if TYPE_CHECKING:
    from icebus.fpga._device.fabric import Pad
    from icebus.fpga._netlist.decode import Design

_UNDRIVEN: Final = Netlist((), ZERO)


@dataclass(frozen=True, slots=True)
class Cone:
    """What drives a pin.

    Attributes:
        netlist: simplified; has black boxes if it depends on what is not modelled.
        assumptions: what was taken for signals that nothing decides and that matter.
    """

    netlist: Netlist
    assumptions: tuple[str, ...]


def cone_of(design: Design, pad: Pad) -> Cone:
    """What drives a pin.

    Raises:
        BitstreamUnsupported: too many wires have several drivers.
    """
    pin = fabric.PIN_OF_PAD.get(pad, 0)
    netlist = Extraction(design, pad).netlist()
    if netlist is None:
        return Cone(_UNDRIVEN, (f"pin {pin} is no output in this bitstream: nothing drives it",))
    assumptions = _Assumptions(design)
    netlist = simplify(netlist)
    if assumptions.is_off(netlist, pad):
        return Cone(_UNDRIVEN, (f"pin {pin} is an output that is never switched on",))
    return assumptions.applied_to(netlist)


class _Assumptions:
    def __init__(self, design: Design) -> None:
        self._design = design
        self._idle: dict[HardBlock, bool] = {}

    def applied_to(self, netlist: Netlist) -> Cone:
        """The netlist with constants for what nothing decides."""
        cells: list[Cell] = list(netlist.cells)
        told: set[str] = set()
        for i, cell in enumerate(cells):
            found = self._taken(cell) if isinstance(cell, BlackBox) else None
            if found is not None:
                level, what = found
                cells[i] = Gate(level, ())
                told.add(f"{what}, taken to be {level}")
        if not told:
            return Cone(netlist, ())
        netlist = simplify(Netlist(tuple(cells), netlist.output, netlist.contention))
        return Cone(netlist, tuple(sorted(told)))

    def is_off(self, netlist: Netlist, pad: Pad) -> bool:
        """Whether an output is a tristate one that is switched off for ever."""
        if netlist.output < FIRST:
            return False
        last = netlist.cells[netlist.output - FIRST]
        return isinstance(last, BlackBox) and last.primitive == TRISTATE and last.place == pad

    def _taken(self, box: BlackBox) -> tuple[int, str] | None:
        """What is taken for a black box, and what it is; None if it does something."""
        if box.primitive == NOTHING:
            return ZERO, f"nothing leads to the output {box.location}"
        if box.primitive == INPUT or (box.primitive == TRISTATE and self._never_on(box.place)):
            pin = fabric.PIN_OF_PAD.get((box.place[0], box.place[1], box.place[2]))
            where = box.location if pin is None else f"pin {pin}"
            return ONE, f"{where} is an input that nothing drives"
        if len(box.place) == 2 and self._is_idle(HardBlock(box.primitive, *box.place)):
            return ZERO, f"{box.primitive} at {box.location} is left idle"
        return None

    def _never_on(self, place: tuple[int, ...]) -> bool:
        x, y, block = place
        return self._constant(x, y, f"io_{block}/OUT_ENB", ZERO) == ZERO

    def _constant(self, x: int, y: int, wire: str, otherwise: int) -> int | None:
        """The level that a wire always has; None if it may change."""
        netlist = Extraction(self._design).netlist_of(x, y, wire, otherwise)
        output = self.applied_to(simplify(netlist)).netlist.output
        return output if output in (ZERO, ONE) else None

    def _is_idle(self, block: HardBlock) -> bool:
        found = self._idle.get(block)
        if found is None:
            self._idle[block] = False  # what only it drives itself keeps it busy
            found = self._idle[block] = self._look_whether_idle(block)
        return found

    def _look_whether_idle(self, block: HardBlock) -> bool:
        if block.primitive == BLOCK_RAM and not self._design.has_power(block.x, block.y):
            return True
        ways = idle_when(block)
        if ways:
            return any(
                all(
                    self._constant(x, y, wire, otherwise) in idle
                    for x, y, wire, otherwise, idle in way
                )
                for way in ways
            )
        return not any(self._design.feeds(x, y) for x, y in input_tiles_of(block))
