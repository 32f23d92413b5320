"""Simulating a schedule for a block of steps at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from icebus.fpga._engines.synchronous import lfsr, state_table
from icebus.fpga._engines.synchronous.integer_waveforms import (
    bits_of,
    delayed,
    first_one,
    repeated,
    repeats,
    scan,
)
from icebus.fpga._engines.synchronous.schedule import CoupledGroup, Schedule, SingleGroup
from icebus.fpga._state_machine.state_machine import STATE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icebus.fpga._engines.synchronous.schedule import Operation

FIRST_RUN: Final = 256
"""Steps for which a group's guess is tried first; each time it holds, eight times as many."""

GATE_COST: Final = 150
"""What handling a gate costs whatever the number of steps, in operations on a word of 64 steps."""

TRIAL_GUESSES: Final = 24
"""Guesses after which a group is judged: if they held for less than that many steps on average, its
state bits change too often, and it is worked out in another way."""

_MANY_GUESSES: Final = 3
"""Guesses in a block, and one more for 32,768 steps, that are many; those for what repeats itself
don't count."""

_REMEMBERED: Final = 256
"""States of a group that are remembered within a block, to notice that it repeats itself."""


class BudgetExceeded(Exception):
    """The budget is used up in the middle of a block."""


class Blocks:
    """The running simulation of a schedule.

    Attributes:
        state: the values of the state bits before the next step.
        waveforms: by node, the values over the steps of the last block.
        work: how much has been computed, in operations on a word of 64 steps.
        states_unknown: whether there are state bits whose waveforms are not evaluated.
        changes_often: whether coupled state bits did in the last block; long ones don't pay then.
    """

    def __init__(self, schedule: Schedule, budget: int) -> None:
        machine = schedule.machine
        self.groups = schedule.groups
        self.halves = machine.per_cycle == 2
        self.state = list(machine.initial)
        self.waveforms: list[int] = [0] * (STATE + machine.states + len(machine.gates))
        self.work = 0
        self.changes_often = False
        self.states_unknown = False
        self._budget = budget
        self._runs: dict[tuple[int, tuple[int, ...]], int] = {}
        self._tables: dict[int, state_table.States] = {}
        self._lfsrs: dict[int, lfsr.Lfsr] = {}
        self._machine = machine

    @property
    def size(self) -> int:
        """Bytes that are kept between blocks, beside the schedule."""
        tables = sum(table.nbytes for table in self._tables.values())
        return tables + sum(register.size for register in self._lfsrs.values())

    def release(self) -> None:
        """Drop what only matters within a block."""
        self.waveforms = [0] * len(self.waveforms)

    def run(self, steps: int) -> None:
        """Go on for ``steps`` (even) steps.

        Raises:
            BudgetExceeded: the budget is used up; the simulation can't go on.
        """
        waveforms = self.waveforms
        ones = (1 << steps) - 1
        waveforms[1] = ones
        waveforms[2] = ones // 3 if self.halves else 0
        self.changes_often = False
        for group in self.groups:
            if isinstance(group, SingleGroup):
                self._single(group, steps, ones)
                if group.state:
                    last = waveforms[group.following] >> (steps - 1)
                    self.state[group.state - STATE] = last & 1
            else:
                self._coupled(group, steps)
                waveforms[1] = ones

    def _evaluate(self, gates: Sequence[Operation], ones: int) -> None:
        waveforms = self.waveforms
        for node, function, a, b, c, d in gates:
            waveforms[node] = function(waveforms[a], waveforms[b], waveforms[c], waveforms[d], ones)

    def _single(self, group: SingleGroup, steps: int, ones: int) -> None:
        waveforms = self.waveforms
        self.work += (len(group.gates) + 1) * (GATE_COST + (steps >> 5))
        state = group.state
        if state and group.feedback:
            waveforms[state] = 0
            self._evaluate(group.gates, ones)
            if_zero = waveforms[group.following]
            waveforms[state] = ones
            self._evaluate(group.gates, ones)
            if_one = waveforms[group.following]
            first = self.state[state - STATE]
            waveforms[state] = delayed(scan(if_zero, if_one, first, steps, ones), first, ones)
            self.work += GATE_COST + 4 * steps.bit_length() * (8 + (steps >> 6))
        elif state:
            waveforms[state] = delayed(waveforms[group.following], self.state[state - STATE], ones)
        self._evaluate(group.gates, ones)

    # --- coupled groups -----------------------------------------------------------------------

    def _coupled(self, group: CoupledGroup, steps: int) -> None:
        waveforms = self.waveforms
        register = self._lfsrs.get(group.states[0][0])
        if register is not None:
            self.work += len(group.outputs) * (GATE_COST + steps)
            for node, waveform in register.waveforms(steps).items():
                waveforms[node] = waveform
            return
        outside = [waveforms[node] for node in group.inputs]
        recorded = [0] * len(group.recorded)
        seen: dict[tuple[int, ...], int] = {}
        done = guesses = 0
        while done < steps:
            if self.work > self._budget:
                raise BudgetExceeded
            if len(seen) < _REMEMBERED:
                state = self._state_of(group)
                start = seen.setdefault(state, done)
                if start < done and all(repeats(w, start, done - start, steps) for w in outside):
                    self._repeat(group, recorded, start, done, steps)
                    break
            if guesses > TRIAL_GUESSES and done < guesses * TRIAL_GUESSES:
                self._simulate_without_guess(group, outside, recorded, done, steps)
                break
            done += self._simulate_with_guess(group, outside, recorded, done, steps - done)
            guesses += 1
        self.changes_often = self.changes_often or guesses > _MANY_GUESSES + (steps >> 15)
        for node, waveform in zip(group.inputs, outside, strict=True):
            waveforms[node] = waveform
        for node, waveform in zip(group.recorded, recorded, strict=True):
            waveforms[node] = waveform

    def _state_of(self, group: CoupledGroup) -> tuple[int, ...]:
        state = self.state
        return tuple([state[node - STATE] for node, _ in group.states])

    def _simulate_with_guess(
        self, group: CoupledGroup, outside: list[int], recorded: list[int], done: int, left: int
    ) -> int:
        """Simulate a group for as many steps as a guess holds; gives their number."""
        waveforms = self.waveforms
        run, guess = self._prepare(group, outside, done, left)
        ones = (1 << run) - 1
        waveforms[1] = ones
        for node, waveform in zip(group.inputs, outside, strict=True):
            waveforms[node] = (waveform >> done) & ones
        for node, value in zip(group.guessed, guess, strict=True):
            waveforms[node] = ones if value else 0
        for part in group.parts:
            self._single(part, run, ones)
        valid = self._valid(group, run, ones)
        kept = (1 << valid) - 1
        for i, node in enumerate(group.recorded):
            recorded[i] |= (waveforms[node] & kept) << done
        for node, following in group.states:
            self.state[node - STATE] = (waveforms[following] >> (valid - 1)) & 1
        key = (group.states[0][0], guess)
        self._runs[key] = run * 8 if valid == run else valid + (valid >> 3) + 1
        return valid

    def _prepare(
        self, group: CoupledGroup, outside: Sequence[int], done: int, left: int
    ) -> tuple[int, tuple[int, ...]]:
        """For how many steps to guess, and what: the values at the first of them."""
        waveforms = self.waveforms
        for node, _ in group.states:
            waveforms[node] = self.state[node - STATE]
        for node, waveform in zip(group.inputs, outside, strict=True):
            waveforms[node] = (waveform >> done) & 1
        waveforms[1] = 1
        self._evaluate(group.gates, 1)
        self.work += len(group.gates) * GATE_COST
        guess = tuple([waveforms[node] for node in group.guessed])
        run = self._runs.get((group.states[0][0], guess), FIRST_RUN)
        return min(run, left), guess

    def _valid(self, group: CoupledGroup, run: int, ones: int) -> int:
        """For how many steps the guess was right; for one at least."""
        waveforms = self.waveforms
        wrong = 0
        for node, function, a, b, c, d in group.guessed_gates:
            wrong |= waveforms[node] ^ function(
                waveforms[a], waveforms[b], waveforms[c], waveforms[d], ones
            )
        valid = first_one(wrong) if wrong else run
        wrong = 0
        states = group.guessed[len(group.guessed_gates) :]
        for node, following in zip(states, group.guessed_states, strict=True):
            wrong |= waveforms[node] ^ waveforms[following]
        return min(valid, first_one(wrong) + 1) if wrong else valid

    def _repeat(
        self, group: CoupledGroup, recorded: list[int], start: int, done: int, steps: int
    ) -> None:
        """Fill the rest of a block with what a group did between two steps with the same state."""
        period = done - start
        ones = (1 << period) - 1
        last = start + (steps - start) % period
        for i, node in enumerate(group.recorded):
            if STATE <= node < STATE + len(self.state):
                self.state[node - STATE] = recorded[i] >> last & 1
            again = repeated(recorded[i] >> start & ones, period, steps - done)
            recorded[i] |= again << done
        self.work += len(group.recorded) * (GATE_COST + (steps >> 4))

    def _simulate_without_guess(
        self, group: CoupledGroup, outside: list[int], recorded: list[int], done: int, steps: int
    ) -> None:
        """Simulate a group to the end of a block by the values of its state bits alone."""
        waveforms = self.waveforms
        left = steps - done
        inputs = [waveform >> done for waveform in outside]
        if not group.inputs and len(group.states) > state_table.TABLE_BITS:
            register = self._as_lfsr(group)
            if register is not None:
                waveforms[1] = (1 << steps) - 1
                for node, waveform in register.waveforms(left).items():
                    recorded[group.recorded.index(node)] |= waveform << done
                return
        self.changes_often = True
        if not any(inputs) and len(group.states) <= state_table.TABLE_BITS:
            states = self._by_table(group, left)
        else:
            cost = (len(group.gates) + len(group.states)) * GATE_COST
            allowed = (self._budget - self.work) // cost
            if allowed < left:
                self.work = self._budget + 1
                raise BudgetExceeded
            self.work += cost * left
            states = state_table.step_by_step(group, waveforms, inputs, self._state_of(group), left)
        ones = (1 << left) - 1
        waveforms[1] = ones
        for node, waveform in zip(group.inputs, inputs, strict=True):
            waveforms[node] = waveform
        for (node, _), waveform in zip(group.states, states, strict=True):
            waveforms[node] = waveform & ones
            self.state[node - STATE] = waveform >> left
        self._evaluate(group.gates, ones)
        for i, node in enumerate(group.recorded):
            recorded[i] |= waveforms[node] << done

    def _as_lfsr(self, group: CoupledGroup) -> lfsr.Lfsr | None:
        """Simulate a group as a linear feedback shift register from now on, if it is one."""
        if not lfsr.is_linear(self._machine, group):
            return None
        known = 2 * len(group.states) + 4
        states = state_table.step_by_step(group, self.waveforms, [], self._state_of(group), known)
        ones = self.waveforms[1] = (1 << known) - 1
        for (node, _), waveform in zip(group.states, states, strict=True):
            self.waveforms[node] = waveform & ones
        self._evaluate(group.gates, ones)
        self.work += known * len(group.gates) * GATE_COST
        self.states_unknown = True
        register = self._lfsrs[group.states[0][0]] = lfsr.Lfsr(
            {
                node: lfsr.LinearSequence(bits_of(self.waveforms[node], known).tolist())
                for node in group.outputs
            }
        )
        return register

    def _by_table(self, group: CoupledGroup, steps: int) -> list[int]:
        """The waveforms of the state bits of a group without inputs, over ``steps`` + 1 steps."""
        key = group.states[0][0]
        if key not in self._tables:
            self._tables[key] = state_table.transition_table(group, len(self.waveforms))
            self.work += len(group.gates) << len(group.states) >> 4
        first = sum(bit << i for i, bit in enumerate(self._state_of(group)))
        path, back = state_table.states_until_repeat(self._tables[key], first)
        self.work += len(self._tables[key]) * 64
        waveforms = []
        for waveform in state_table.waveforms_of(path, len(group.states)):
            again = repeated(waveform >> back, len(path) - back, max(steps + 1 - back, 0))
            waveforms.append((waveform | again << back) & ((1 << (steps + 1)) - 1))
        return waveforms
