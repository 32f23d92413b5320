"""Long blocks of steps, with waves as arrays of words.

Worth it for circuits in which little happens for a long time: slow dividers, wide counters, phase
accumulators. A knot whose guess does not hold for the whole block is left to the integers of
:mod:`icebus.fpga.block`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from icebus.fpga import words
from icebus.fpga.block import GATE_COST, Blocks, Exhausted
from icebus.fpga.plan import Single
from icebus.fpga.steps import STATE
from icebus.fpga.words import ALL_ONE, ALL_ZERO, ONES, Words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icebus.fpga.plan import Knot, Operation, Plan

LONG: Final = 1 << 20
"""Steps of a long block: 128 kB a wave, which the processor's caches still like."""

_CALL: Final = 4
"""How much dearer handling a gate is with arrays than with integers."""


class LongBlocks(Blocks):
    """A running simulation that can also take long blocks."""

    def __init__(self, plan: Plan, budget: int) -> None:
        super().__init__(plan, budget)
        self.arrays: list[Words] = [ALL_ZERO] * len(self.waves)
        self._integers: dict[int, int] = {}

    def release(self) -> None:
        """Drop what only matters within a block."""
        super().release()
        self.arrays = [ALL_ZERO] * len(self.waves)
        self._integers.clear()

    def run_long(self) -> int:
        """Go on for :data:`LONG` steps, or until shortly before a guess fails.

        Returns:
            The number of steps, a multiple of 64; :attr:`arrays` has the waves, which are right so
            far. With 0 nothing was done.

        Raises:
            Exhausted: the budget is used up; the simulation can't go on.
        """
        if self.work > self._budget:
            raise Exhausted
        arrays, state = self.arrays, self.state
        arrays[0], arrays[1] = ALL_ZERO, ALL_ONE
        arrays[2] = words.EVEN if self.halves else ALL_ZERO
        self._integers.clear()
        self.busy = False
        before = list(state)
        positions = {key: register.position for key, register in self._registers.items()}
        valid = LONG >> 6
        for group in self.groups:
            if isinstance(group, Single):
                self._long_single(group)
                if group.state:
                    last = words.at(arrays[group.following], LONG - 1)
                    state[group.state - STATE] = last
            else:
                valid = min(valid, self._long_knot(group))
                if not valid:
                    break
        if valid < LONG >> 6:
            for key, position in positions.items():
                self._registers[key].position = position + (valid << 6)
            if not valid:
                state[:] = before
                return 0
            for i in range(len(state)):
                state[i] = words.at(arrays[STATE + i], valid << 6)
        return valid << 6

    def _long_evaluate(self, gates: Sequence[Operation]) -> None:
        arrays = self.arrays
        for node, function, a, b, c, d in gates:
            w, x, y, z = words.matched(arrays[a], arrays[b], arrays[c], arrays[d])
            result = function(w, x, y, z, ONES)
            arrays[node] = ALL_ZERO if words.is_zero(result) else result
            self.work += _CALL * GATE_COST + 2 * len(result)

    def _long_single(self, group: Single) -> None:
        arrays = self.arrays
        state = group.state
        if not state:
            self._long_evaluate(group.gates)
            return
        first = self.state[state - STATE]
        count = LONG >> 6
        if not group.feedback:
            arrays[state] = words.delayed(arrays[group.following], first, count)
            return
        arrays[state] = ALL_ZERO
        self._long_evaluate(group.gates)
        if_zero = arrays[group.following]
        if group.toggles:
            following = words.shortened(if_zero)
            if following is not ALL_ZERO:
                following = words.parity(following, count)
            if first:
                following = following ^ ONES
        else:
            arrays[state] = ALL_ONE
            self._long_evaluate(group.gates)
            following = words.scan(if_zero, arrays[group.following], first, count)
        self.work += 4 * _CALL * GATE_COST + 12 * len(following)
        arrays[state] = words.delayed(following, first, count)
        self._long_evaluate(group.gates)

    def _long_knot(self, knot: Knot) -> int:
        """Simulate a knot; gives the number of words for which it is right."""
        arrays, state = self.arrays, self.state
        if knot.states[0][0] in self._registers:
            return self._by_integers(knot)
        for node in knot.inputs:
            self.waves[node] = words.at(arrays[node], 0)
        outside = [self.waves[node] for node in knot.inputs]
        _, guess = self._prepare(knot, outside, 0, LONG)
        key = (knot.states[0][0], guess)
        if self._runs.get(key, 0) > LONG // 4:
            for node, value in zip(knot.guessed, guess, strict=True):
                arrays[node] = words.constant(value)
            for part in knot.parts:
                self._long_single(part)
            for node, following in knot.states:
                state[node - STATE] = words.at(arrays[following], LONG - 1)
            return self._holds(knot)
        return self._by_integers(knot)

    def _by_integers(self, knot: Knot) -> int:
        arrays, count = self.arrays, LONG >> 6
        for node in knot.inputs:
            self.waves[node] = self._integer(node)
        self._knot(knot, LONG)
        for node in knot.used if knot.states[0][0] in self._registers else knot.exports:
            arrays[node] = words.shortened(words.from_integer(self.waves[node], count))
        return count

    def _integer(self, node: int) -> int:
        found = self._integers.get(node)
        if found is None:
            found = self._integers[node] = words.to_integer(self.arrays[node], LONG >> 6)
        return found

    def _holds(self, knot: Knot) -> int:
        """The number of words for which what was guessed is so."""
        arrays = self.arrays
        valid = LONG >> 6
        for node, function, a, b, c, d in knot.guessed_gates:
            w, x, y, z = words.matched(arrays[a], arrays[b], arrays[c], arrays[d])
            valid = words.first_word(arrays[node] ^ function(w, x, y, z, ONES), valid)
        states = knot.guessed[len(knot.guessed_gates) :]
        for node, following in zip(states, knot.guessed_states, strict=True):
            operands = words.matched(arrays[node], arrays[following])
            valid = words.first_word(operands[0] ^ operands[1], valid)
        return valid
