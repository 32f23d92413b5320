"""Building a step gate by gate, smaller than what is put in."""

from __future__ import annotations

from itertools import chain, count
from typing import Final

from icebus.fpga.netlist import CLOCK, ONE, ZERO
from icebus.fpga.simplify import fold
from icebus.fpga.steps import STATE, Step

_IDENTITY: Final = 0b10


class Folding:
    """Gates on the way to a step: without constants, and none of them twice."""

    def __init__(self, states: int) -> None:
        self._first = STATE + states
        self._gates: list[tuple[int, tuple[int, ...]]] = []
        self._known: dict[tuple[int, tuple[int, ...]], int] = {}
        self.nodes = list(range(self._first))

    def gate(self, table: int, inputs: tuple[int, ...]) -> int:
        """The node of a function of nodes."""
        key = fold(table, inputs)
        table, inputs = key
        if not inputs:
            return table & 1
        if table == _IDENTITY and len(inputs) == 1:
            return inputs[0]
        node = self._known.get(key)
        if node is None:
            node = self._known[key] = self._first + len(self._gates)
            self._gates.append(key)
        return node

    def made(self, node: int) -> tuple[int, tuple[int, ...]]:
        """Truth table and inputs of a gate; nothing for other nodes."""
        return self._gates[node - self._first] if node >= self._first else (0, ())

    def find(self, table: int, one: int, other: int) -> int:
        """The node of a gate that treats its two inputs alike, -1 if there is none."""
        known = self._known
        return known.get((table, (one, other)), known.get((table, (other, one)), -1))

    def step(self, following: list[int], output: int) -> Step:
        """The step: what the output depends on, in an order that depends on nothing else."""
        first, all_gates = self._first, self._gates
        number = {ZERO: ZERO, ONE: ONE, CLOCK: CLOCK}
        states: list[int] = []
        gates: list[int] = []
        for root in chain((output,), (following[state - STATE] for state in states)):
            stack = [root]
            while stack:
                node = stack[-1]
                if node in number:
                    stack.pop()
                elif node < first:
                    number[node] = STATE + len(states)
                    states.append(node)
                    stack.pop()
                else:
                    missing = [i for i in all_gates[node - first][1] if i not in number]
                    if missing:
                        stack += missing
                    else:
                        number[node] = 0  # until the number of states is known
                        gates.append(node)
                        stack.pop()
        number.update(zip(gates, count(STATE + len(states))))
        return Step(
            states=len(states),
            gates=tuple(
                [
                    (table, tuple([number[i] for i in inputs]))
                    for table, inputs in [all_gates[node - first] for node in gates]
                ]
            ),
            following=tuple([number[following[state - STATE]] for state in states]),
            output=number[output],
            initial=(0,) * len(states),
            per_cycle=1,
        )
