"""For which states a node is 0 or 1, and when a counter reaches one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from icebus.fpga._netlist.truth_tables import restrict
from icebus.fpga._state_machine.state_machine import STATE

if TYPE_CHECKING:
    from icebus.fpga._state_machine.state_machine import StateMachine

_MOST_CUBES: Final = 64

Cube = tuple[int, int]
"""State bits that are given (a mask), and their values."""


class TooComplex(Exception):
    """Too much goes on for counting by arithmetic."""


class Cubes:
    """For which states a node is 0 or 1."""

    def __init__(self, machine: StateMachine) -> None:
        self._machine = machine
        self._known: dict[tuple[int, int], tuple[Cube, ...]] = {}

    def of(self, node: int, wanted: int) -> tuple[Cube, ...]:
        """All states with that value, as cubes.

        Raises:
            TooComplex: they are too many.
        """
        if node <= 1:
            return ((0, 0),) if node == wanted else ()
        if node < STATE + self._machine.states:
            bit = 1 << (node - STATE)
            return ((bit, bit if wanted else 0),)
        found = self._known.get((node, wanted))
        if found is None:
            table, inputs = self._machine.gates[node - STATE - self._machine.states]
            found = tuple(dict.fromkeys(self._rows(table, inputs, wanted)))
            if len(found) > _MOST_CUBES:
                raise TooComplex
            self._known[node, wanted] = found
        return found

    def _rows(self, table: int, inputs: tuple[int, ...], wanted: int) -> list[Cube]:
        ones = (1 << (1 << len(inputs))) - 1
        if table in (0, ones):
            return [(0, 0)] if (table == ones) == bool(wanted) else []
        node, *others = inputs
        sides = [restrict(table, len(inputs), 0, value) for value in (0, 1)]
        if sides[0] == sides[1]:
            return self._rows(sides[0], tuple(others), wanted)
        found: list[Cube] = []
        for value, side in enumerate(sides):
            rest = self._rows(side, tuple(others), wanted)
            if not rest:
                continue
            for mask, bits in self.of(node, value):
                for other_mask, other_bits in rest:
                    if not (bits ^ other_bits) & mask & other_mask:
                        found.append((mask | other_mask, bits | other_bits))
            if len(found) > _MOST_CUBES:
                raise TooComplex
        return found


def gathered(state: int, bits: tuple[int, ...]) -> int:
    """Some bits of a state side by side, the first one lowest."""
    return sum((state >> bit & 1) << i for i, bit in enumerate(bits))


def steps_to(value: int, given: int, wanted: int, bits: int) -> int | None:
    """Steps, 1 at least, that a counter takes from a value to the next one in a cube."""
    if not bits:
        return None
    ones = (1 << bits) - 1
    start = value + 1 & ones
    found = start
    wrong = (start ^ wanted) & given
    if wrong:
        high = wrong.bit_length() - 1
        if wanted >> high & 1:
            turned = 1 << high
        else:  # a free bit above has to become 1
            free = ~start & ~given & ones & -2 << high
            turned = free & -free
        # With that bit 1, lower ones are as low as they may be; without such a bit, all are.
        found = start & -2 * turned | turned | wanted & turned - 1 if turned else wanted
    return (found - start & ones) + 1
