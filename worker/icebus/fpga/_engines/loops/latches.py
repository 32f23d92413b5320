"""Loops of gates that always come to rest, such as latches, as memory that follows the clock.

A loop is cut at a gate or a few. If, whatever its inputs are and whatever it held before, going
around it a second time changes nothing, it is at rest after the first; then it is the same as gates
that see what it held in the cycle before. That is decided by looking at all combinations at once,
see :mod:`icebus.fpga._netlist.truth_tables`. What is lost are races: of inputs that change
together, a real latch may see one before the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from icebus.fpga._netlist.graph import feedback_vertex, strong_components
from icebus.fpga._netlist.netlist import CLOCK, FIRST, ONE, ZERO, Cell, Flop, Gate, Netlist
from icebus.fpga._netlist.truth_tables import compile_table
from icebus.fpga._state_machine.evaluation_order import both_edges_matter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MOST_INPUTS: Final = 14
"""Inputs and cuts of a loop, beyond which it is not looked at: 16,384 combinations are 2 kB."""

_MOST_GATES: Final = 64
"""Gates of a loop, beyond which it is not looked at."""


def replace_latches(netlist: Netlist) -> Netlist | None:
    """A netlist without loops of gates that does the same; nothing if there may be none.

    Only for circuits in which all flip-flops follow one edge of the clock: loops see their inputs
    change once in a cycle then.
    """
    flops = [cell for cell in netlist.cells if isinstance(cell, Flop)]
    if not flops or both_edges_matter(netlist):
        return None
    if any(flop.clock != CLOCK or flop.asynchronous for flop in flops):
        return None
    loops = loops_of(netlist)
    cells = list(netlist.cells)
    for loop in loops:
        if len(loop) > _MOST_GATES or not _Loop(netlist, loop).replace_in(cells, flops[0].negative):
            return None
    return Netlist(tuple(cells), netlist.output, netlist.contention)


def loops_of(netlist: Netlist) -> list[list[int]]:
    """The loops that gates form, each after those that drive it."""
    gates = {
        FIRST + i: cell.inputs for i, cell in enumerate(netlist.cells) if isinstance(cell, Gate)
    }
    return [
        part
        for part in strong_components(gates, gates)
        if len(part) > 1 or part[0] in gates[part[0]]
    ]


class _Loop:
    """One loop of a netlist, cut open."""

    def __init__(self, netlist: Netlist, members: Sequence[int]) -> None:
        self._gates: dict[int, Gate] = {}
        for signal in members:
            cell = netlist.cells[signal - FIRST]
            assert isinstance(cell, Gate)  # noqa: S101 - loops are of gates
            self._gates[signal] = cell
        self._cuts: list[int] = []
        work = [list(members)]
        while work:
            part = work.pop()
            cut = feedback_vertex(part, self._drivers(part))
            self._cuts.append(cut)
            rest = [signal for signal in part if signal != cut]
            drivers = self._drivers(rest)
            work += [
                p for p in strong_components(rest, drivers) if len(p) > 1 or p[0] in drivers[p[0]]
            ]
        opened = {
            signal: tuple(i for i in gate.inputs if i not in self._cuts)
            for signal, gate in self._gates.items()
        }
        self._order = [signal for part in strong_components(opened, opened) for signal in part]

    def replace_in(self, cells: list[Cell], negative: bool) -> bool:
        """Replace the loop by gates once around it, and once more with what that gives."""
        if not self._settles():
            return False
        held = {}
        for cut in self._cuts:
            held[cut] = FIRST + len(cells)
            cells.append(Flop(CLOCK, negative, cut))
        first: dict[int, int] = {}
        for signal in self._order:
            gate = self._gates[signal]
            inputs = [held.get(i, first.get(i, i)) for i in gate.inputs]
            first[signal] = FIRST + len(cells)
            cells.append(Gate(gate.table, tuple(inputs)))
        for signal, gate in self._gates.items():
            inputs = [first[i] if i in held else i for i in gate.inputs]
            cells[signal - FIRST] = Gate(gate.table, tuple(inputs))
        return True

    def _settles(self) -> bool:
        """Whether a second time around never differs from the first."""
        inputs = {i for gate in self._gates.values() for i in gate.inputs if i not in self._gates}
        variables = [*sorted(inputs - {ZERO, ONE}), *self._cuts]
        if len(variables) > _MOST_INPUTS:
            return False
        rows = 1 << len(variables)
        ones = (1 << rows) - 1
        waveforms = {ZERO: 0, ONE: ones}
        for i, signal in enumerate(variables):
            half = 1 << i  # bit i of a row's number changes every 2**i rows
            waveforms[signal] = ones // ((1 << half) + 1) << half
        once = self._around(waveforms, ones)
        twice = self._around(waveforms | {cut: once[cut] for cut in self._cuts}, ones)
        return all(once[cut] == twice[cut] for cut in self._cuts)

    def _around(self, before: Mapping[int, int], ones: int) -> dict[int, int]:
        """All gates of the loop, from what the cuts were before."""
        after: dict[int, int] = {}
        for signal in self._order:
            gate = self._gates[signal]
            operands = [
                before[i] if i in self._cuts or i not in after else after[i] for i in gate.inputs
            ]
            a, b, c, d = (*operands, 0, 0, 0, 0)[:4]
            after[signal] = compile_table(gate.table, len(operands))(a, b, c, d, ones)
        return after

    def _drivers(self, members: Sequence[int]) -> dict[int, tuple[int, ...]]:
        """What drives the members, of the members."""
        inside = set(members)
        return {m: tuple(i for i in self._gates[m].inputs if i in inside) for m in members}
