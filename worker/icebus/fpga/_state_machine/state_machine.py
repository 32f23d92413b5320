"""A circuit as a state machine, and how one is put together gate by gate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain, count
from typing import TYPE_CHECKING, Final

from icebus.fpga._netlist.netlist import CLOCK, ONE, ZERO
from icebus.fpga._netlist.truth_tables import IDENTITY, compose, fold

if TYPE_CHECKING:
    from collections.abc import Sequence

STATE: Final = 3
"""Node of the first state bit; before it are 0, 1 and the clock's level within the step."""

_MOST_INPUTS: Final = 4


@dataclass(frozen=True, slots=True)
class StateMachine:
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


class StateMachineBuilder:
    """Gates on the way to a state machine: without constants, and none of them twice.

    Attributes:
        nodes: constants, the clock and the state bits; its owner adds what it needs to find again.
    """

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
        if table == IDENTITY and len(inputs) == 1:
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

    def state_machine(
        self,
        following: Sequence[int],
        output: int,
        initial: Sequence[int] | None = None,
        per_cycle: int = 1,
    ) -> StateMachine:
        """What the output depends on, in an order that depends on nothing else.

        Args:
            following: the node of each state bit's next value.
            output: the node of the counted signal.
            initial: the state after configuration; 0 throughout by default.
            per_cycle: steps in a clock cycle.
        """
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
        return StateMachine(
            states=len(states),
            gates=tuple(
                [
                    (table, tuple([number[i] for i in inputs]))
                    for table, inputs in [all_gates[node - first] for node in gates]
                ]
            ),
            following=tuple([number[following[state - STATE]] for state in states]),
            output=number[output],
            initial=tuple([initial[state - STATE] if initial else 0 for state in states]),
            per_cycle=per_cycle,
        )


def merge_gates(machine: StateMachine) -> StateMachine:
    """The same state machine with fewer, bigger gates, which are cheaper to evaluate.

    A gate that only one other gate needs is taken into that one.
    """
    first = STATE + machine.states
    gates = list(machine.gates)
    users = [0] * (first + len(gates))
    for _, inputs in gates:
        for node in inputs:
            users[node] += 1
    for node in (*machine.following, machine.output):
        users[node] += 2  # so that it is kept
    for i, (table, inputs) in enumerate(gates):
        pin = 0
        while pin < len(inputs):
            node = inputs[pin]
            pin += 1
            if node < first or users[node] > 1:
                continue
            inner_table, inner = gates[node - first]
            union = tuple(dict.fromkeys((*(other for other in inputs if other != node), *inner)))
            if len(union) > _MOST_INPUTS:
                continue
            places = tuple([union.index(other) if other != node else -1 for other in inputs])
            inner_places = tuple([union.index(other) for other in inner])
            for shared in inner:
                users[shared] -= shared in inputs
            users[node] = 0
            table = compose(table, places, inner_table, inner_places, len(union))
            inputs, pin = union, 0
        gates[i] = (table, inputs)
    number = {node: node for node in range(first)}
    kept: list[tuple[int, tuple[int, ...]]] = []
    for i, (table, inputs) in enumerate(gates):
        if users[first + i]:
            number[first + i] = first + len(kept)
            kept.append((table, tuple([number[node] for node in inputs])))
    return replace(
        machine,
        gates=tuple(kept),
        following=tuple([number[node] for node in machine.following]),
        output=number[machine.output],
    )
