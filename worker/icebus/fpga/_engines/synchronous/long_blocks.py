"""Long blocks of steps, with waveforms as arrays of array_waveforms.

Worth it for circuits in which little happens for a long time: slow dividers, wide counters, phase
accumulators. A group whose guess does not hold for the whole block is left to the integers of
:mod:`icebus.fpga._engines.synchronous.blocks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from icebus.fpga._engines.synchronous import array_waveforms
from icebus.fpga._engines.synchronous.array_waveforms import ALL_ONE, ALL_ZERO, ONES, ArrayWaveform
from icebus.fpga._engines.synchronous.blocks import GATE_COST, Blocks, BudgetExceeded
from icebus.fpga._engines.synchronous.schedule import SingleGroup
from icebus.fpga._state_machine.state_machine import STATE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icebus.fpga._engines.synchronous.schedule import CoupledGroup, Operation, Schedule

LONG: Final = 1 << 20
"""Steps of a long block: 128 kB a waveform, which the processor's caches still like."""

_CALL: Final = 4
"""How much dearer handling a gate is with arrays than with integers."""


class LongBlocks(Blocks):
    """A running simulation that can also take long blocks."""

    def __init__(self, schedule: Schedule, budget: int) -> None:
        super().__init__(schedule, budget)
        self.arrays: list[ArrayWaveform] = [ALL_ZERO] * len(self.waveforms)
        self._integers: dict[int, int] = {}

    def release(self) -> None:
        """Drop what only matters within a block."""
        super().release()
        self.arrays = [ALL_ZERO] * len(self.waveforms)
        self._integers.clear()

    def run_long(self) -> int:
        """Go on for :data:`LONG` steps, or until shortly before a guess fails.

        Returns:
            The number of steps, a multiple of 64; :attr:`arrays` has the waveforms, which are right
            for these. With 0 nothing was done.

        Raises:
            BudgetExceeded: the budget is used up; the simulation can't go on.
        """
        if self.work > self._budget:
            raise BudgetExceeded
        arrays, state = self.arrays, self.state
        arrays[0], arrays[1] = ALL_ZERO, ALL_ONE
        arrays[2] = array_waveforms.EVEN if self.halves else ALL_ZERO
        self._integers.clear()
        self.changes_often = False
        before = list(state)
        positions = {key: register.position for key, register in self._lfsrs.items()}
        valid = LONG >> 6
        for group in self.groups:
            if isinstance(group, SingleGroup):
                self._long_single(group)
                if group.state:
                    last = array_waveforms.at(arrays[group.following], LONG - 1)
                    state[group.state - STATE] = last
            else:
                valid = min(valid, self._long_coupled(group))
                if not valid:
                    break
        if valid < LONG >> 6:
            for key, position in positions.items():
                self._lfsrs[key].position = position + (valid << 6)
            if not valid:
                state[:] = before
                return 0
            for i in range(len(state)):
                state[i] = array_waveforms.at(arrays[STATE + i], valid << 6)
        return valid << 6

    def _long_evaluate(self, gates: Sequence[Operation]) -> None:
        arrays = self.arrays
        for node, function, a, b, c, d in gates:
            w, x, y, z = array_waveforms.broadcast(arrays[a], arrays[b], arrays[c], arrays[d])
            result = function(w, x, y, z, ONES)
            arrays[node] = ALL_ZERO if array_waveforms.is_zero(result) else result
            self.work += _CALL * GATE_COST + 2 * len(result)

    def _long_single(self, group: SingleGroup) -> None:
        arrays = self.arrays
        state = group.state
        if not state:
            self._long_evaluate(group.gates)
            return
        first = self.state[state - STATE]
        count = LONG >> 6
        if not group.feedback:
            arrays[state] = array_waveforms.delayed(arrays[group.following], first, count)
            return
        arrays[state] = ALL_ZERO
        self._long_evaluate(group.gates)
        if_zero = arrays[group.following]
        if group.toggles:
            following = array_waveforms.compressed(if_zero)
            if following is not ALL_ZERO:
                following = array_waveforms.parity(following, count)
            if first:
                following = following ^ ONES
        else:
            arrays[state] = ALL_ONE
            self._long_evaluate(group.gates)
            following = array_waveforms.scan(if_zero, arrays[group.following], first, count)
        self.work += 4 * _CALL * GATE_COST + 12 * len(following)
        arrays[state] = array_waveforms.delayed(following, first, count)
        self._long_evaluate(group.gates)

    def _long_coupled(self, group: CoupledGroup) -> int:
        """Simulate a group; gives the number of words for which it is right."""
        arrays, state = self.arrays, self.state
        if group.states[0][0] in self._lfsrs:
            return self._by_integers(group)
        for node in group.inputs:
            self.waveforms[node] = array_waveforms.at(arrays[node], 0)
        outside = [self.waveforms[node] for node in group.inputs]
        _, guess = self._prepare(group, outside, 0, LONG)
        key = (group.states[0][0], guess)
        if self._runs.get(key, 0) > LONG // 4:
            for node, value in zip(group.guessed, guess, strict=True):
                arrays[node] = array_waveforms.constant(value)
            for part in group.parts:
                self._long_single(part)
            for node, following in group.states:
                state[node - STATE] = array_waveforms.at(arrays[following], LONG - 1)
            return self._holds(group)
        return self._by_integers(group)

    def _by_integers(self, group: CoupledGroup) -> int:
        arrays, count = self.arrays, LONG >> 6
        for node in group.inputs:
            self.waveforms[node] = self._integer(node)
        self._coupled(group, LONG)
        for node in group.outputs if group.states[0][0] in self._lfsrs else group.recorded:
            arrays[node] = array_waveforms.compressed(
                array_waveforms.from_integer(self.waveforms[node], count)
            )
        return count

    def _integer(self, node: int) -> int:
        found = self._integers.get(node)
        if found is None:
            found = self._integers[node] = array_waveforms.to_integer(self.arrays[node], LONG >> 6)
        return found

    def _holds(self, group: CoupledGroup) -> int:
        """The number of words for which what was guessed is so."""
        arrays = self.arrays
        valid = LONG >> 6
        for node, function, a, b, c, d in group.guessed_gates:
            w, x, y, z = array_waveforms.broadcast(arrays[a], arrays[b], arrays[c], arrays[d])
            valid = array_waveforms.first_word(arrays[node] ^ function(w, x, y, z, ONES), valid)
        states = group.guessed[len(group.guessed_gates) :]
        for node, following in zip(states, group.guessed_states, strict=True):
            operands = array_waveforms.broadcast(arrays[node], arrays[following])
            valid = array_waveforms.first_word(operands[0] ^ operands[1], valid)
        return valid
