"""Free-running counters and phase accumulators, by arithmetic.

A register that adds a constant at every step may take 2**32 steps and more to come back, but when
one of its bits rises is a matter of a division. Such a register is recognised by its gates: a bit
inverts when the carry into it differs from that bit of the constant, and a carry is the majority of
the bit below, that bit of the constant and the carry into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from icebus.fpga._netlist.truth_tables import AND, INVERT, OR, XNOR, XOR
from icebus.fpga._state_machine.state_machine import STATE

if TYPE_CHECKING:
    from icebus.fpga._state_machine.state_machine import StateMachine


_CARRY_OF: Final = {XOR: AND, XNOR: OR}
"""The carry out of a bit, by how it changes: the majority with a 0 or a 1 of the constant."""


@dataclass(frozen=True, slots=True)
class Accumulator:
    """A register that adds a constant, and what becomes of its highest bit.

    Attributes:
        bits: its width.
        increment: what is added at every step; the first value is 0.
        delays: for each flip-flop that the highest bit passes on its way to the output, whether it
            is inverted on the way into it; the one next to the output comes first.
        inverted: whether the output is the opposite of the last of these.
    """

    bits: int
    increment: int
    delays: tuple[bool, ...]
    inverted: bool

    def count(self, steps: int, start: int = 0) -> int:
        """Rising edges of the output within ``steps`` steps from ``start`` on."""
        return self._up_to(start + steps) - (self._up_to(start) if start else 0)

    def _up_to(self, steps: int) -> int:
        """Rising edges of the output within the first ``steps`` steps."""
        opposite = self.inverted
        start = []  # the output before the highest bit's first value arrives
        for inverts in self.delays:
            start.append(int(opposite))
            opposite = opposite != inverts
        start.append(int(opposite))
        start = start[: steps + 1]
        rises = sum(a < b for a, b in pairwise(start))
        return rises + self._rises(max(steps - len(self.delays), 0), opposite)

    def _rises(self, steps: int, opposite: bool) -> int:
        """Rising edges of the highest bit (or of its opposite) after its first value."""
        size = 1 << self.bits
        half = size >> 1
        # In half turns: the highest bit is 1 in the odd ones. The register moves by less than one
        # at a time, backwards if the constant is more than half of its range.
        forwards = self.increment <= half
        if forwards:
            first, last = 0, self.increment * steps // half
        else:
            first, last = (self.increment - size) * steps // half - 1, -1
        # turns n with first < n <= last that are entered with the level going up
        return (last + (not opposite)) // 2 - (first + (not opposite)) // 2


def recognise(machine: StateMachine) -> Accumulator | None:
    """The accumulator whose highest bit is the output, if that is what a state machine is."""
    if machine.per_cycle != 1 or any(machine.initial):
        return None
    gates = _Gates(machine)
    node, inverted = gates.uninverted(machine.output)
    delays: list[bool] = []
    while gates.is_state(node) and len(delays) < machine.states:
        source, inverts = gates.uninverted(gates.following(node))
        if source == node or not gates.is_state(source):
            break
        delays.append(inverts)
        node = source
    increment = _increment(gates, node)
    if increment is None:
        return None
    return Accumulator(len(increment), int("".join(increment), 2), tuple(delays), inverted)


def _increment(gates: _Gates, state: int) -> list[str] | None:
    """The constant's bits, highest first, of the register whose highest bit is ``state``."""
    digits: list[str] = []
    table, carry = gates.change(state)
    while carry is not None and table in _CARRY_OF:
        digits.append("1" if table == XNOR else "0")
        if gates.is_state(carry):
            state = carry  # the majority of a bit, 1 and 0 is the bit
            table, carry = gates.change(state)
            break
        made, inputs = gates.gate(carry)
        for below, other in (inputs, inputs[::-1]) if len(inputs) == 2 else ():
            table, carry = gates.change(below)
            if carry == other and _CARRY_OF.get(table) == made:
                break
        else:
            return None
    return [*digits, "1"] if table == INVERT and carry is None else None


class _Gates:
    """A state machine's gates by node."""

    def __init__(self, machine: StateMachine) -> None:
        self._machine = machine
        self._first = STATE + machine.states

    def is_state(self, node: int) -> bool:
        return STATE <= node < self._first

    def following(self, state: int) -> int:
        return self._machine.following[state - STATE]

    def gate(self, node: int) -> tuple[int, tuple[int, ...]]:
        return self._machine.gates[node - self._first] if node >= self._first else (0, ())

    def uninverted(self, node: int) -> tuple[int, bool]:
        """The node, or what it is the opposite of."""
        table, inputs = self.gate(node)
        return (inputs[0], True) if table == INVERT and len(inputs) == 1 else (node, False)

    def change(self, state: int) -> tuple[int, int | None]:
        """How a state bit's next value depends on it: a table, and the other input."""
        if not self.is_state(state):
            return 0, None
        table, inputs = self.gate(self.following(state))
        others = [node for node in inputs if node != state]
        if len(others) == len(inputs) or len(others) > 1:
            return 0, None
        return table, others[0] if others else None
