"""From a netlist to a state machine.

A step is a clock cycle, or half of one where both edges matter. Within it nothing takes time; what
happens after an edge is put in order by *delta cycles*, as in a register transfer simulation.
Flip-flops clocked by pin 35 itself take their values in delta 0, those clocked by a signal that
changes in delta ``d`` in delta ``d + 1``, when they see what deltas up to ``d`` have changed. So
ripple counters are exact, and a step stays a plain function of the state.
"""

from __future__ import annotations

from typing import Final

from icebus.fpga._netlist.netlist import CLOCK, FIRST, ONE, ZERO, Flop, Gate, Netlist
from icebus.fpga._netlist.truth_tables import INVERT, MUX
from icebus.fpga._state_machine.evaluation_order import DeltaCycles, both_edges_matter, levelised
from icebus.fpga._state_machine.state_machine import STATE, StateMachine, StateMachineBuilder

_AND_NOT: Final = 0b0010

_BEFORE: Final = -1
"""The moment before a step."""


def state_machine_of(netlist: Netlist) -> StateMachine:
    """The state machine of a netlist.

    Raises:
        NoEvaluationOrder: gates form a loop, or a clock has several sources that change one after
            another.
    """
    return _Conversion(netlist).state_machine()


class _Conversion:
    def __init__(self, netlist: Netlist) -> None:
        self._netlist = netlist
        self._cells = netlist.cells
        self._order = levelised(netlist.cells)
        self._halves = both_edges_matter(netlist)
        self._changes: dict[int, frozenset[int]] = {}
        self._deltas: dict[int, int] = {}
        self._flops = [FIRST + i for i, cell in enumerate(self._cells) if isinstance(cell, Flop)]
        self._state = {signal: STATE + i for i, signal in enumerate(self._flops)}
        self._builder = StateMachineBuilder(len(self._flops))
        self._nodes: dict[tuple[int, int], int] = {(ZERO, _BEFORE): ZERO, (ONE, _BEFORE): ONE}

    def state_machine(self) -> StateMachine:
        if self._single_clock():
            for signal in self._order:
                self._nodes[signal, _BEFORE] = self._make(signal, _BEFORE)
            following = [self._single_clock_following(signal) for signal in self._flops]
            output = self._nodes[self._netlist.output, _BEFORE]
        else:
            deltas = DeltaCycles(self._cells, self._order, self._halves)
            self._changes, self._deltas = deltas.changes, deltas.clocked
            last = max(self._deltas.values(), default=0) + 1
            following = [self._node(signal, last) for signal in self._flops]
            output = self._node(self._netlist.output, _BEFORE)
        return self._builder.state_machine(
            following, output, self._initial(), per_cycle=2 if self._halves else 1
        )

    def _single_clock(self) -> bool:
        """Whether every flip-flop follows the clock alone: then nothing needs an order."""
        flops = [cell for cell in self._cells if isinstance(cell, Flop)]
        return not self._halves and all(
            flop.clock == CLOCK and not flop.asynchronous for flop in flops
        )

    def _single_clock_following(self, signal: int) -> int:
        """What a flip-flop becomes in a step, if :meth:`_single_clock`."""
        flop = self._cells[signal - FIRST]
        assert isinstance(flop, Flop)  # noqa: S101 - for the type checker
        data, enable, reset = (self._nodes[i, _BEFORE] for i in flop.inputs[1:])
        value = self._gate(MUX, data, int(flop.value), reset) if reset else data
        return value if enable == ONE else self._gate(MUX, self._state[signal], value, enable)

    # --- nodes ----------------------------------------------------------------------------

    def _gate(self, table: int, *inputs: int) -> int:
        return self._builder.gate(table, inputs)

    def _version(self, signal: int, delta: int) -> int:
        """The earliest moment from which the signal is what it is once ``delta`` begins."""
        return max((d + 1 for d in self._changes[signal] if d < delta), default=_BEFORE)

    def _node(self, signal: int, delta: int) -> int:
        """The node of a signal as deltas below ``delta`` have left it."""
        stack = [(signal, self._version(signal, delta))]
        while stack:
            key = stack[-1]
            if key in self._nodes:
                stack.pop()
                continue
            needed = [need for need in self._needs(*key) if need not in self._nodes]
            if needed:
                stack.extend(needed)
            else:
                self._nodes[key] = self._make(*key)
                stack.pop()
        return self._nodes[signal, self._version(signal, delta)]

    def _at(self, signal: int, delta: int) -> tuple[int, int]:
        return signal, self._version(signal, delta)

    def _needs(self, signal: int, delta: int) -> list[tuple[int, int]]:
        if signal < FIRST:
            return []
        cell = self._cells[signal - FIRST]
        if isinstance(cell, Gate):
            return [self._at(i, delta) for i in cell.inputs]
        if not isinstance(cell, Flop) or delta == _BEFORE:
            return []
        own = self._deltas[signal]
        needs = [self._at(cell.reset, delta)] if cell.asynchronous else []
        if own < delta:
            needs += [self._at(i, own) for i in (cell.data, cell.enable, cell.reset)]
            needs += [self._at(cell.clock, own), self._at(cell.clock, _BEFORE)]
            if self._version(signal, own) < delta:
                needs.append(self._at(signal, own))
        return needs

    def _make(self, signal: int, delta: int) -> int:
        if signal <= ONE:
            return signal
        if signal == CLOCK:
            return self._gate(INVERT, CLOCK) if delta == _BEFORE and self._halves else CLOCK
        cell = self._cells[signal - FIRST]
        if isinstance(cell, Gate):
            nodes = self._nodes
            if delta == _BEFORE:
                return self._gate(cell.table, *[nodes[i, _BEFORE] for i in cell.inputs])
            return self._gate(cell.table, *[nodes[self._at(i, delta)] for i in cell.inputs])
        assert isinstance(cell, Flop)  # noqa: S101 - black boxes are refused before
        if delta == _BEFORE:
            return self._state[signal]
        own = self._deltas[signal]
        value = self._clocked(signal, cell, own) if own < delta else self._state[signal]
        if cell.asynchronous:
            reset = self._nodes[self._at(cell.reset, delta)]
            value = self._gate(MUX, value, int(cell.value), reset)
        return value

    def _clocked(self, signal: int, flop: Flop, own: int) -> int:
        """What a flip-flop becomes in its delta cycle."""
        held = self._nodes[self._at(signal, own)]
        value = self._nodes[self._at(flop.data, own)]
        enable = self._nodes[self._at(flop.enable, own)]
        reset = self._nodes[self._at(flop.reset, own)]
        if flop.asynchronous:  # the enable does not keep the reset away
            value = self._gate(MUX, held, value, enable)
            value = self._gate(MUX, value, int(flop.value), reset)
        else:
            value = self._gate(MUX, value, int(flop.value), reset)
            value = self._gate(MUX, held, value, enable)
        if flop.clock == CLOCK:
            if not self._halves:
                return value
            return self._gate(MUX, *((value, held) if flop.negative else (held, value)), CLOCK)
        after = self._nodes[self._at(flop.clock, own)]
        before = self._nodes[self._at(flop.clock, _BEFORE)]
        if flop.negative:
            before, after = after, before
        return self._gate(MUX, held, value, self._gate(_AND_NOT, after, before))

    def _initial(self) -> tuple[int, ...]:
        """All 0, but for what asynchronous sets and resets make of it with the clock low."""
        value = {ZERO: 0, ONE: 1, CLOCK: 0}
        for signal in self._order:
            cell = self._cells[signal - FIRST]
            if isinstance(cell, Gate):
                row = sum(value[i] << pin for pin, i in enumerate(cell.inputs))
                value[signal] = cell.table >> row & 1
            else:
                assert isinstance(cell, Flop)  # noqa: S101 - black boxes are refused before
                value[signal] = int(cell.asynchronous and cell.value and value[cell.reset])
        return tuple(value[signal] for signal in self._flops)
