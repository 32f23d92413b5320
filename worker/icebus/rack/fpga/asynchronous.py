"""Circuits without an order of events that is fixed in advance: loops of gates, mixed clocks.

Every gate on a loop is given a delay of its own, drawn from the seed that stands for the board, in
units of which a half clock cycle has :data:`UNITS`. All other gates are immediate. What comes out is
plausible, not physical, and always marked as inexact.
"""

from __future__ import annotations

from random import Random
from typing import Final

from icebus.rack.fpga.graph import components, hub
from icebus.rack.fpga.logic import compiled
from icebus.rack.fpga.netlist import CLOCK, FIRST, ONE, Flop, Gate, Netlist

UNITS: Final = 8
"""Delays of a gate with its wires in half a clock cycle: 10.4 ns of about 1.3 ns each."""

SETTLE: Final = 64
"""Units within which a loop has to come to rest, or else it oscillates."""

BUDGET: Final = 2_000_000
"""Evaluations of a gate or flip-flop after which a count is extrapolated; about 0.4 s of CPU."""

FASTEST: Final = (50, 48)
"""The boards' counter takes 3 cycles of 150 MHz a pulse, so 50 pulses in 48 clock cycles."""


def count(netlist: Netlist, cycles: int, seed: int, reason: str) -> tuple[int, bool, str]:
    """Rising edges of the output within ``cycles``, whether that is exact (it isn't), and why."""
    simulation = _Simulation(netlist, Random(seed))
    pulses, note = simulation.run(2 * cycles)
    fastest = cycles * FASTEST[0] // FASTEST[1]
    return min(pulses, fastest), False, f"{reason}: {note}"


class _Simulation:
    def __init__(self, netlist: Netlist, random: Random) -> None:
        self._cells = netlist.cells
        self._output = netlist.output
        signals = [FIRST + i for i in range(len(netlist.cells))]
        gates = {
            s: c.inputs for s, c in zip(signals, netlist.cells, strict=True) if isinstance(c, Gate)
        }
        self._delayed = self._loops(gates)
        self._delay = {signal: random.randint(1, 3) for signal in sorted(self._delayed)}
        free = {s: tuple(i for i in of if i not in self._delayed) for s, of in gates.items()}
        self._ordered = [
            self._operation(node)
            for part in components(gates, free)
            for node in part
            if node not in self._delayed
        ]
        self._loop = [self._operation(node) for node in sorted(self._delayed)]
        self._flops = [
            (signal, cell)
            for signal, cell in zip(signals, netlist.cells, strict=True)
            if isinstance(cell, Flop)
        ]
        self._values = [0] * (FIRST + len(netlist.cells))
        self._values[ONE] = 1
        self._due: dict[int, int] = {}
        self._clocks = [0] * len(self._flops)
        self._rises = 0
        self._work = 0

    def _loops(self, gates: dict[int, tuple[int, ...]]) -> set[int]:
        """Gates that, taken out, leave no loop."""
        cut: set[int] = set()
        work = [sorted(gates)]
        while work:
            for part in components(work.pop(), gates):
                if len(part) > 1 or part[0] in gates[part[0]]:
                    node = hub(part, gates)
                    cut.add(node)
                    if len(part) > 1:
                        work.append([other for other in part if other != node])
        return cut

    def _operation(self, signal: int) -> tuple[int, object, tuple[int, ...]]:
        cell = self._cells[signal - FIRST]
        assert isinstance(cell, Gate)  # noqa: S101 - for the type checker
        operands = cell.inputs + (0,) * (4 - len(cell.inputs))
        return signal, compiled(cell.table, len(cell.inputs)), operands

    def run(self, halves: int) -> tuple[int, str]:
        """Rising edges within that many half cycles, and what was done to find them."""
        values = self._values
        oscillates = not self._settle(SETTLE)
        self._clocks = [self._level(flop) for _, flop in self._flops]
        self._rises = 0
        seen: dict[tuple[int, ...], tuple[int, int]] = {}
        for half in range(halves):
            if half % 2 == 0:
                state = (*values, *self._due.items()) if not self._due else None
                if state is not None and not oscillates:
                    before = seen.setdefault(tuple(values), (half, self._rises))
                    if before[0] != half:
                        return self._repeat(halves, half, before), "loops were settled"
            if self._work > BUDGET:
                return self._rises * halves // half, "extrapolated from part of the window"
            values[CLOCK] = 1 - half % 2
            if not self._settle(UNITS if oscillates else SETTLE):
                oscillates = True
        return self._rises, "it oscillates" if oscillates else "loops were settled"

    def _repeat(self, halves: int, half: int, before: tuple[int, int]) -> int:
        """The count once the state of an earlier half cycle has come back."""
        periods, rest = divmod(halves - before[0], half - before[0])
        each = self._rises - before[1]
        if not rest:
            return before[1] + periods * each
        start = self._rises
        for more in range(rest):
            self._values[CLOCK] = 1 - more % 2
            self._settle(SETTLE)
        return before[1] + periods * each + self._rises - start

    def _settle(self, units: int) -> bool:
        """Let at most that much time pass; true if nothing changes any more."""
        for _ in range(units):
            level = self._values[self._output]
            moved = self._immediate()
            moved = self._elapse() or moved
            if self._values[self._output] and not level:
                self._rises += 1
            if not moved:
                return True
        return False

    def _level(self, flop: Flop) -> int:
        return self._values[flop.clock] ^ flop.negative

    def _immediate(self) -> bool:
        """Gates without delay, then the flip-flops whose clock has risen."""
        values = self._values
        for signal, function, (a, b, c, d) in self._ordered:
            values[signal] = function(values[a], values[b], values[c], values[d], 1)  # type: ignore[operator]
        self._work += len(self._ordered) + len(self._flops)
        changes = []
        for i, (signal, flop) in enumerate(self._flops):
            level = self._level(flop)
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
        """One unit of time for the gates that have a delay."""
        values, due = self._values, self._due
        changes = []
        for signal, function, (a, b, c, d) in self._loop:
            value = function(values[a], values[b], values[c], values[d], 1)  # type: ignore[operator]
            if value == values[signal]:
                due.pop(signal, None)
                continue
            left = due.get(signal, self._delay[signal]) - 1
            if left:
                due[signal] = left
            else:
                due.pop(signal, None)
                changes.append((signal, value))
        self._work += len(self._loop)
        for signal, value in changes:
            values[signal] = value
        return bool(changes) or bool(due)
