"""Circuits without an order of events that is fixed in advance: loops of gates, mixed clocks.

Each gate on a loop is given a delay, drawn from the seed that stands for the board, in units of
which half a clock cycle has :data:`UNITS`; all others are immediate. A loop that comes
to rest (a latch) is let do so before the clock goes on; one that does not, oscillates, and the
clock goes on meanwhile. What comes out is plausible, not physical, and marked as inexact.

A finer model of time would replace :class:`Simulation` and keep :func:`count`.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final

from icebus.rack.fpga.graph import components
from icebus.rack.fpga.logic import compiled
from icebus.rack.fpga.netlist import CLOCK, FIRST, ONE, Flop, Gate, Netlist

if TYPE_CHECKING:
    from collections.abc import Callable

UNITS: Final = 8
"""Units in half a clock cycle: 10.4 ns of about 1.3 ns each, a gate with short wires."""

DELAYS: Final = (1, 3)
"""Least and greatest delay of a gate on a loop, in units: short wires and long ones."""

SETTLE: Final = 200
"""Units within which a loop has to come to rest, or else it oscillates."""

BUDGET: Final = 400_000
"""Evaluations of gates and flip-flops after which a count is extrapolated: about 0.4 s of CPU."""

_UNIT_COST: Final = 5
"""What a unit of time costs beside that, in evaluations."""

FASTEST: Final = (50, 48)
"""The boards' counter takes 3 cycles of 150 MHz a pulse, so 50 pulses in 48 clock cycles."""


def count(netlist: Netlist, cycles: int, seed: int, reason: str) -> tuple[int, str]:
    """Rising edges of the output within ``cycles`` clock cycles, and why they are inexact.

    Args:
        netlist: the circuit.
        cycles: the window.
        seed: stands for the board; the same seed gives the same count.
        reason: why the circuit needs this.
    """
    pulses, note = Simulation(netlist, Random(seed)).run(2 * cycles)
    return min(pulses, cycles * FASTEST[0] // FASTEST[1]), f"{reason}; {note}"


@dataclass(slots=True)
class _GateNow:
    signal: int
    function: Callable[[Any, Any, Any, Any, Any], Any]
    operands: tuple[int, ...]


class Simulation:
    """One circuit from configuration on, half a clock cycle after the other."""

    def __init__(self, netlist: Netlist, random: Random) -> None:
        self._cells = netlist.cells
        self._output = netlist.output
        signals = range(FIRST, FIRST + len(netlist.cells))
        cells = list(zip(signals, netlist.cells, strict=True))
        gates = {signal: cell.inputs for signal, cell in cells if isinstance(cell, Gate)}
        loops = [part for part in components(gates, gates) if _is_loop(part, gates)]
        delayed = {signal for part in loops for signal in part}
        self._delays = {signal: random.randint(*DELAYS) for signal in sorted(delayed)}
        open_ended = {
            signal: tuple(i for i in inputs if i not in delayed) for signal, inputs in gates.items()
        }
        order = [node for part in components(gates, open_ended) for node in part]
        self._immediate = [self._gate(node) for node in order if node not in delayed]
        self._loops = [self._gate(node) for node in sorted(delayed)]
        self._flops = [(signal, cell) for signal, cell in cells if isinstance(cell, Flop)]
        self._values = [0] * (FIRST + len(netlist.cells))
        self._values[ONE] = 1
        self._clocks = [1] * len(self._flops)  # so that nothing has risen at first
        self._due: dict[int, int] = {}
        self._rises = 0
        self._work = 0

    def run(self, halves: int) -> tuple[int, str]:
        """Rising edges within that many half cycles, and what was done to find them."""
        rests = self._pass(SETTLE)
        self._rises = 0
        seen: dict[tuple[int, ...], tuple[int, int]] = {}
        for half in range(halves):
            if rests and half % 2 == 0:
                self._work += len(self._values) // 8
                first, rises = seen.setdefault(tuple(self._values), (half, self._rises))
                if first < half:
                    periods, rest = divmod(halves - first, half - first)
                    each, here = self._rises - rises, self._rises
                    for again in range(rest):
                        self._half(again, rests=True)
                    return rises + periods * each + self._rises - here, "it comes to rest"
            if self._work > BUDGET:
                how = "comes to rest" if rests else "oscillates"
                return self._rises * halves // half, f"it {how}; extrapolated from {half} steps"
            rests = self._half(half, rests)
        return self._rises, "it comes to rest" if rests else "it oscillates"

    def _half(self, half: int, rests: bool) -> bool:
        """Half a clock cycle; false once something oscillates."""
        self._values[CLOCK] = 1 - half % 2
        return self._pass(SETTLE if rests else UNITS) and rests

    def _pass(self, units: int) -> bool:
        """Let at most that much time pass; true if everything is at rest."""
        for _ in range(units):
            before = self._values[self._output]
            moved = self._settle() | self._elapse()
            self._rises += self._values[self._output] > before
            if not moved:
                return True
        return False

    def _gate(self, signal: int) -> _GateNow:
        cell = self._cells[signal - FIRST]
        operands = cell.inputs + (0,) * (4 - len(cell.inputs))
        table = cell.table if isinstance(cell, Gate) else 0
        return _GateNow(signal, compiled(table, len(cell.inputs)), operands)

    def _evaluate(self, gate: _GateNow) -> int:
        values = self._values
        a, b, c, d = gate.operands
        self._work += 1
        return int(gate.function(values[a], values[b], values[c], values[d], 1))

    def _settle(self) -> bool:
        """Gates without delay, then the flip-flops whose clock has risen; true if these change."""
        values = self._values
        for gate in self._immediate:
            values[gate.signal] = self._evaluate(gate)
        self._work += len(self._flops) + _UNIT_COST
        changes = []
        for i, (signal, flop) in enumerate(self._flops):
            level = values[flop.clock] ^ flop.negative
            rose, self._clocks[i] = level > self._clocks[i], level
            value = values[signal]
            if flop.asynchronous and values[flop.reset]:
                value = int(flop.value)
            elif rose and values[flop.enable]:
                value = int(flop.value) if values[flop.reset] else values[flop.data]
            if value != values[signal]:
                changes.append((signal, value))
        for signal, value in changes:
            values[signal] = value
        return bool(changes)

    def _elapse(self) -> bool:
        """One unit of time for the gates on loops; true if any moves or is about to."""
        changes = []
        for gate in self._loops:
            value = self._evaluate(gate)
            if value == self._values[gate.signal]:
                self._due.pop(gate.signal, None)
                continue
            left = self._due.get(gate.signal, self._delays[gate.signal]) - 1
            self._due[gate.signal] = left
            if not left:
                del self._due[gate.signal]
                changes.append((gate.signal, value))
        for signal, value in changes:
            self._values[signal] = value
        return bool(changes or self._due)


def _is_loop(part: list[int], gates: dict[int, tuple[int, ...]]) -> bool:
    return len(part) > 1 or part[0] in gates[part[0]]
