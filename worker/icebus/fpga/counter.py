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

from icebus.fpga.steps import STATE

if TYPE_CHECKING:
    from icebus.fpga.steps import Step

_INVERT: Final = 0b01
_XOR: Final = 0b0110
_XNOR: Final = 0b1001
_AND: Final = 0b1000
_OR: Final = 0b1110

_CARRY_OF: Final = {_XOR: _AND, _XNOR: _OR}
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

    def count(self, steps: int) -> int:
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


def recognise(step: Step) -> Accumulator | None:
    """The accumulator whose highest bit is the output, if that is what a step is."""
    if step.per_cycle != 1 or any(step.initial):
        return None
    look = _Gates(step)
    node, inverted = look.uninverted(step.output)
    delays: list[bool] = []
    while look.is_state(node) and len(delays) < step.states:
        source, inverts = look.uninverted(look.following(node))
        if source == node or not look.is_state(source):
            break
        delays.append(inverts)
        node = source
    increment = _increment(look, node)
    if increment is None:
        return None
    return Accumulator(len(increment), int("".join(increment), 2), tuple(delays), inverted)


def _increment(look: _Gates, state: int) -> list[str] | None:
    """The constant's bits, highest first, of the register whose highest bit is ``state``."""
    digits: list[str] = []
    table, carry = look.change(state)
    while carry is not None and table in _CARRY_OF:
        digits.append("1" if table == _XNOR else "0")
        if look.is_state(carry):
            state = carry  # the majority of a bit, 1 and 0 is the bit
            table, carry = look.change(state)
            break
        made, inputs = look.gate(carry)
        for below, other in (inputs, inputs[::-1]) if len(inputs) == 2 else ():
            table, carry = look.change(below)
            if carry == other and _CARRY_OF.get(table) == made:
                break
        else:
            return None
    return [*digits, "1"] if table == _INVERT and carry is None else None


class _Gates:
    """A step's gates by node."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._first = STATE + step.states

    def is_state(self, node: int) -> bool:
        return STATE <= node < self._first

    def following(self, state: int) -> int:
        return self._step.following[state - STATE]

    def gate(self, node: int) -> tuple[int, tuple[int, ...]]:
        return self._step.gates[node - self._first] if node >= self._first else (0, ())

    def uninverted(self, node: int) -> tuple[int, bool]:
        """The node, or what it is the opposite of."""
        table, inputs = self.gate(node)
        return (inputs[0], True) if table == _INVERT and len(inputs) == 1 else (node, False)

    def change(self, state: int) -> tuple[int, int | None]:
        """How a state bit's next value depends on it: a table, and the other input."""
        if not self.is_state(state):
            return 0, None
        table, inputs = self.gate(self.following(state))
        others = [node for node in inputs if node != state]
        if len(others) == len(inputs) or len(others) > 1:
            return 0, None
        return table, others[0] if others else None
