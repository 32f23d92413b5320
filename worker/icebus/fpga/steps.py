"""A netlist as one step: the flip-flops' next state as gates over their present one.

A step is a clock cycle, or half of one where both edges matter. Within it nothing takes time; what
happens after an edge is put in order by *ranks*. Flip-flops clocked by pin 35 itself have rank 0,
those clocked by a signal that changes at rank ``r`` have rank ``r + 1`` and see what ranks up to
``r`` have become, as in a register transfer simulation. So ripple counters are exact, and a step
stays a plain function of the state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from icebus.fpga.netlist import CLOCK, FIRST, ONE, ZERO, Flop, Gate, Netlist
from icebus.fpga.ranks import Ranks, both_edges_matter, levelised
from icebus.fpga.simplify import fold

STATE: Final = 3
"""Node of the first state bit; before it are 0, 1 and the clock's level within the step."""

_INVERT: Final = 0b01
_AND_NOT: Final = 0b0010
_MUX: Final = 0xCA
"""``c ? b : a``"""

_OLD: Final = -1
"""The moment before a step."""


@dataclass(frozen=True, slots=True)
class Step:
    """The function from one state to the next.

    Attributes:
        states: number of state bits; state bit ``i`` is node ``STATE + i``.
        gates: node ``STATE + states + i`` is gate ``i``; drivers come first.
        following: the node of each state bit's next value.
        output: the node of the counted signal, as it is before the step.
        initial: the state after configuration.
        per_cycle: steps in a clock cycle, 1 or 2; with 2, the clock's node is 1 in the first.
    """

    states: int
    gates: tuple[tuple[int, tuple[int, ...]], ...]
    following: tuple[int, ...]
    output: int
    initial: tuple[int, ...]
    per_cycle: int


def build(netlist: Netlist) -> Step:
    """The step of a netlist.

    Raises:
        Irregular: gates form a loop, or a clock has several sources that change one after another.
    """
    return _Builder(netlist).step()


class _Builder:
    def __init__(self, netlist: Netlist) -> None:
        self._netlist = netlist
        self._cells = netlist.cells
        self._order = levelised(netlist.cells)
        self._halves = both_edges_matter(netlist)
        self._changes: dict[int, frozenset[int]] = {}
        self._ranks: dict[int, int] = {}
        self._flops = [FIRST + i for i, cell in enumerate(self._cells) if isinstance(cell, Flop)]
        self._state = {signal: STATE + i for i, signal in enumerate(self._flops)}
        self._gates: list[tuple[int, tuple[int, ...]]] = []
        self._known: dict[tuple[int, tuple[int, ...]], int] = {}
        self._nodes: dict[tuple[int, int], int] = {(ZERO, _OLD): ZERO, (ONE, _OLD): ONE}

    def step(self) -> Step:
        if self._plain():
            for signal in self._order:
                self._nodes[signal, _OLD] = self._make(signal, _OLD)
            following = [self._plainly_following(signal) for signal in self._flops]
            output = self._nodes[self._netlist.output, _OLD]
        else:
            ranks = Ranks(self._cells, self._order, self._halves)
            self._changes, self._ranks = ranks.changes, ranks.of
            last = max(self._ranks.values(), default=0) + 1
            following = [self._node(signal, last) for signal in self._flops]
            output = self._node(self._netlist.output, _OLD)
        gates, following, output = self._pruned(following, output)
        return Step(
            states=len(self._flops),
            gates=gates,
            following=tuple(following),
            output=output,
            initial=self._initial(),
            per_cycle=2 if self._halves else 1,
        )

    def _plain(self) -> bool:
        """Whether every flip-flop follows the clock alone: then nothing needs an order."""
        flops = [cell for cell in self._cells if isinstance(cell, Flop)]
        return not self._halves and all(
            flop.clock == CLOCK and not flop.asynchronous for flop in flops
        )

    def _plainly_following(self, signal: int) -> int:
        """What a flip-flop becomes in a step, if :meth:`_plain`."""
        flop = self._cells[signal - FIRST]
        assert isinstance(flop, Flop)  # noqa: S101 - for the type checker
        data, enable, reset = (self._nodes[i, _OLD] for i in flop.inputs[1:])
        value = self._gate(_MUX, data, int(flop.value), reset) if reset else data
        return value if enable == ONE else self._gate(_MUX, self._state[signal], value, enable)

    # --- nodes ----------------------------------------------------------------------------

    def _gate(self, table: int, *inputs: int) -> int:
        table, inputs = fold(table, inputs)
        if not inputs:
            return table & 1
        if len(inputs) == 1 and table == 0b10:
            return inputs[0]
        key = (table, inputs)
        node = self._known.get(key)
        if node is None:
            node = self._known[key] = STATE + len(self._flops) + len(self._gates)
            self._gates.append(key)
        return node

    def _version(self, signal: int, rank: int) -> int:
        """The earliest moment from which the signal is what it is once ``rank`` begins."""
        return max((r + 1 for r in self._changes[signal] if r < rank), default=_OLD)

    def _node(self, signal: int, rank: int) -> int:
        """The node of a signal as ranks below ``rank`` have left it."""
        stack = [(signal, self._version(signal, rank))]
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
        return self._nodes[signal, self._version(signal, rank)]

    def _at(self, signal: int, rank: int) -> tuple[int, int]:
        return signal, self._version(signal, rank)

    def _needs(self, signal: int, rank: int) -> list[tuple[int, int]]:
        if signal < FIRST:
            return []
        cell = self._cells[signal - FIRST]
        if isinstance(cell, Gate):
            return [self._at(i, rank) for i in cell.inputs]
        if not isinstance(cell, Flop) or rank == _OLD:
            return []
        own = self._ranks[signal]
        needs = [self._at(cell.reset, rank)] if cell.asynchronous else []
        if own < rank:
            needs += [self._at(i, own) for i in (cell.data, cell.enable, cell.reset)]
            needs += [self._at(cell.clock, own), self._at(cell.clock, _OLD)]
            if self._version(signal, own) < rank:
                needs.append(self._at(signal, own))
        elif cell.asynchronous:
            return needs
        return needs

    def _make(self, signal: int, rank: int) -> int:
        if signal <= ONE:
            return signal
        if signal == CLOCK:
            return self._gate(_INVERT, CLOCK) if rank == _OLD and self._halves else CLOCK
        cell = self._cells[signal - FIRST]
        if isinstance(cell, Gate):
            nodes = self._nodes
            if rank == _OLD:
                return self._gate(cell.table, *[nodes[i, _OLD] for i in cell.inputs])
            return self._gate(cell.table, *[nodes[self._at(i, rank)] for i in cell.inputs])
        assert isinstance(cell, Flop)  # noqa: S101 - foreign cells are refused before
        if rank == _OLD:
            return self._state[signal]
        own = self._ranks[signal]
        value = self._clocked(signal, cell, own) if own < rank else self._state[signal]
        if cell.asynchronous:
            reset = self._nodes[self._at(cell.reset, rank)]
            value = self._gate(_MUX, value, int(cell.value), reset)
        return value

    def _clocked(self, signal: int, flop: Flop, own: int) -> int:
        """What a flip-flop becomes at its rank."""
        held = self._nodes[self._at(signal, own)]
        value = self._nodes[self._at(flop.data, own)]
        enable = self._nodes[self._at(flop.enable, own)]
        reset = self._nodes[self._at(flop.reset, own)]
        if flop.asynchronous:  # the enable does not keep the reset away
            value = self._gate(_MUX, held, value, enable)
            value = self._gate(_MUX, value, int(flop.value), reset)
        else:
            value = self._gate(_MUX, value, int(flop.value), reset)
            value = self._gate(_MUX, held, value, enable)
        if flop.clock == CLOCK:
            if not self._halves:
                return value
            return self._gate(_MUX, *((value, held) if flop.negative else (held, value)), CLOCK)
        after = self._nodes[self._at(flop.clock, own)]
        before = self._nodes[self._at(flop.clock, _OLD)]
        if flop.negative:
            before, after = after, before
        return self._gate(_MUX, held, value, self._gate(_AND_NOT, after, before))

    # --- the result -----------------------------------------------------------------------

    def _pruned(
        self, following: list[int], output: int
    ) -> tuple[tuple[tuple[int, tuple[int, ...]], ...], list[int], int]:
        """Without gates that nothing needs; they are in order already, by the way they are made."""
        first = STATE + len(self._flops)
        needed = {*following, output}
        kept = []
        for i in range(len(self._gates) - 1, -1, -1):
            if first + i in needed:
                needed.update(self._gates[i][1])
                kept.append(i)
        number = {node: node for node in range(first)}
        gates: list[tuple[int, tuple[int, ...]]] = []
        for i in reversed(kept):
            table, inputs = self._gates[i]
            number[first + i] = first + len(gates)
            gates.append((table, tuple(number[node] for node in inputs)))
        return tuple(gates), [number[node] for node in following], number[output]

    def _initial(self) -> tuple[int, ...]:
        """All 0, but for what asynchronous sets and resets make of it with the clock low."""
        value = {ZERO: 0, ONE: 1, CLOCK: 0}
        for signal in self._order:
            cell = self._cells[signal - FIRST]
            if isinstance(cell, Gate):
                row = sum(value[i] << pin for pin, i in enumerate(cell.inputs))
                value[signal] = cell.table >> row & 1
            else:
                assert isinstance(cell, Flop)  # noqa: S101 - foreign cells are refused before
                value[signal] = int(cell.asynchronous and cell.value and value[cell.reset])
        return tuple(value[signal] for signal in self._flops)
