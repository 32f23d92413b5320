"""A plan carried out for a block of steps at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from icebus.fpga import linear, orbit
from icebus.fpga.plan import Knot, Plan, Single
from icebus.fpga.steps import STATE
from icebus.fpga.waves import delayed, first_difference, repeated, repeats, scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icebus.fpga.plan import Operation

FIRST_RUN: Final = 256
"""Steps for which a knot's guess is tried first; each time it holds, eight times as many."""

GATE_COST: Final = 150
"""What handling a gate costs whatever the number of steps, in operations on a word of 64 steps."""

PATIENCE: Final = 24
"""Guesses after which a knot is judged: if they held for less than that many steps on average, its
state bits change too often, and it is worked out in another way."""

_BUSY: Final = 3
"""Guesses in a block, and one more for 32,768 steps, that make it a busy one; the guesses for what
repeats itself don't count."""

_REMEMBERED: Final = 256
"""States of a knot that are remembered within a block, to notice that it repeats itself."""


class Exhausted(Exception):
    """The budget is used up in the middle of a block."""


class Blocks:
    """The running simulation of a plan.

    Attributes:
        state: the values of the state bits before the next step.
        waves: by node, the values over the steps of the last block.
        work: how much has been computed, in operations on a word of 64 steps.
        opaque: whether there are state bits whose waves are not worked out.
        busy: whether the last block had many guesses; long ones don't pay then.
    """

    def __init__(self, plan: Plan, budget: int) -> None:
        step = plan.step
        self.groups = plan.groups
        self.halves = step.per_cycle == 2
        self.state = list(step.initial)
        self.waves: list[int] = [0] * (STATE + step.states + len(step.gates))
        self.work = 0
        self.busy = False
        self.opaque = False
        self._budget = budget
        self._runs: dict[tuple[int, tuple[int, ...]], int] = {}
        self._tables: dict[int, orbit.States] = {}
        self._registers: dict[int, linear.Register] = {}
        self._step = step

    @property
    def size(self) -> int:
        """Bytes that are kept between blocks, beside the plan."""
        tables = sum(table.nbytes for table in self._tables.values())
        return tables + sum(register.size for register in self._registers.values())

    def release(self) -> None:
        """Drop what only matters within a block."""
        self.waves = [0] * len(self.waves)

    def run(self, steps: int) -> None:
        """Go on for ``steps`` (even) steps.

        Raises:
            Exhausted: the budget is used up; the simulation can't go on.
        """
        waves = self.waves
        ones = (1 << steps) - 1
        waves[1] = ones
        waves[2] = ones // 3 if self.halves else 0
        self.busy = False
        for group in self.groups:
            if isinstance(group, Single):
                self._single(group, steps, ones)
                if group.state:
                    last = waves[group.following] >> (steps - 1)
                    self.state[group.state - STATE] = last & 1
            else:
                self._knot(group, steps)
                waves[1] = ones

    def _evaluate(self, gates: Sequence[Operation], ones: int) -> None:
        waves = self.waves
        for node, function, a, b, c, d in gates:
            waves[node] = function(waves[a], waves[b], waves[c], waves[d], ones)

    def _single(self, group: Single, steps: int, ones: int) -> None:
        waves = self.waves
        self.work += (len(group.gates) + 1) * (GATE_COST + (steps >> 5))
        state = group.state
        if state and group.feedback:
            waves[state] = 0
            self._evaluate(group.gates, ones)
            if_zero = waves[group.following]
            waves[state] = ones
            self._evaluate(group.gates, ones)
            if_one = waves[group.following]
            first = self.state[state - STATE]
            waves[state] = delayed(scan(if_zero, if_one, first, steps, ones), first, ones)
            self.work += GATE_COST + 4 * steps.bit_length() * (8 + (steps >> 6))
        elif state:
            waves[state] = delayed(waves[group.following], self.state[state - STATE], ones)
        self._evaluate(group.gates, ones)

    # --- knots ----------------------------------------------------------------------------

    def _knot(self, knot: Knot, steps: int) -> None:
        waves = self.waves
        register = self._registers.get(knot.states[0][0])
        if register is not None:
            self.work += len(knot.used) * (GATE_COST + steps)
            for node, wave in register.waves(steps).items():
                waves[node] = wave
            return
        outside = [waves[node] for node in knot.inputs]
        exported = [0] * len(knot.exports)
        seen: dict[tuple[int, ...], int] = {}
        done = tries = 0
        while done < steps:
            if self.work > self._budget:
                raise Exhausted
            if len(seen) < _REMEMBERED:
                state = self._state_of(knot)
                start = seen.setdefault(state, done)
                if start < done and all(repeats(w, start, done - start, steps) for w in outside):
                    self._repeat(knot, exported, start, done, steps)
                    break
            if tries > PATIENCE and done < tries * PATIENCE:
                self._without_guess(knot, outside, exported, done, steps)
                break
            done += self._guess(knot, outside, exported, done, steps - done)
            tries += 1
        self.busy = self.busy or tries > _BUSY + (steps >> 15)
        for node, wave in zip(knot.inputs, outside, strict=True):
            waves[node] = wave
        for node, wave in zip(knot.exports, exported, strict=True):
            waves[node] = wave

    def _state_of(self, knot: Knot) -> tuple[int, ...]:
        state = self.state
        return tuple([state[node - STATE] for node, _ in knot.states])

    def _guess(
        self, knot: Knot, outside: list[int], exported: list[int], done: int, left: int
    ) -> int:
        """Simulate a knot for as many steps as a guess holds; gives their number."""
        waves = self.waves
        run, guess = self._prepare(knot, outside, done, left)
        ones = (1 << run) - 1
        waves[1] = ones
        for node, wave in zip(knot.inputs, outside, strict=True):
            waves[node] = (wave >> done) & ones
        for node, value in zip(knot.guessed, guess, strict=True):
            waves[node] = ones if value else 0
        for part in knot.parts:
            self._single(part, run, ones)
        valid = self._valid(knot, run, ones)
        kept = (1 << valid) - 1
        for i, node in enumerate(knot.exports):
            exported[i] |= (waves[node] & kept) << done
        for node, following in knot.states:
            self.state[node - STATE] = (waves[following] >> (valid - 1)) & 1
        key = (knot.states[0][0], guess)
        self._runs[key] = run * 8 if valid == run else valid + (valid >> 3) + 1
        return valid

    def _prepare(
        self, knot: Knot, outside: Sequence[int], done: int, left: int
    ) -> tuple[int, tuple[int, ...]]:
        """For how many steps to guess, and what: the values at the first of them."""
        waves = self.waves
        for node, _ in knot.states:
            waves[node] = self.state[node - STATE]
        for node, wave in zip(knot.inputs, outside, strict=True):
            waves[node] = (wave >> done) & 1
        waves[1] = 1
        self._evaluate(knot.scalar, 1)
        self.work += len(knot.scalar) * GATE_COST
        guess = tuple([waves[node] for node in knot.guessed])
        run = self._runs.get((knot.states[0][0], guess), FIRST_RUN)
        return min(run, left), guess

    def _valid(self, knot: Knot, run: int, ones: int) -> int:
        """For how many steps the guess was right; for one at least."""
        waves = self.waves
        wrong = 0
        for node, function, a, b, c, d in knot.guessed_gates:
            wrong |= waves[node] ^ function(waves[a], waves[b], waves[c], waves[d], ones)
        valid = first_difference(wrong) if wrong else run
        wrong = 0
        states = knot.guessed[len(knot.guessed_gates) :]
        for node, following in zip(states, knot.guessed_states, strict=True):
            wrong |= waves[node] ^ waves[following]
        return min(valid, first_difference(wrong) + 1) if wrong else valid

    def _repeat(self, knot: Knot, exported: list[int], start: int, done: int, steps: int) -> None:
        """Fill the rest of a block with what a knot did between two steps with the same state."""
        period = done - start
        ones = (1 << period) - 1
        last = start + (steps - start) % period
        for i, node in enumerate(knot.exports):
            if STATE <= node < STATE + len(self.state):
                self.state[node - STATE] = exported[i] >> last & 1
            again = repeated(exported[i] >> start & ones, period, steps - done)
            exported[i] |= again << done
        self.work += len(knot.exports) * (GATE_COST + (steps >> 4))

    def _without_guess(
        self, knot: Knot, outside: list[int], exported: list[int], done: int, steps: int
    ) -> None:
        """Simulate a knot to the end of a block by the values of its state bits alone."""
        waves = self.waves
        left = steps - done
        inputs = [wave >> done for wave in outside]
        if not knot.inputs and len(knot.states) > orbit.TABLE_BITS:
            register = self._as_register(knot)
            if register is not None:
                waves[1] = (1 << steps) - 1
                for node, wave in register.waves(left).items():
                    exported[knot.exports.index(node)] |= wave << done
                return
        self.busy = True
        if not any(inputs) and len(knot.states) <= orbit.TABLE_BITS:
            states = self._by_table(knot, left)
        else:
            cost = (len(knot.scalar) + len(knot.states)) * GATE_COST
            allowed = (self._budget - self.work) // cost
            if allowed < left:
                self.work = self._budget + 1
                raise Exhausted
            self.work += cost * left
            states = orbit.walk(knot, waves, inputs, self._state_of(knot), left)
        ones = (1 << left) - 1
        waves[1] = ones
        for node, wave in zip(knot.inputs, inputs, strict=True):
            waves[node] = wave
        for (node, _), wave in zip(knot.states, states, strict=True):
            waves[node] = wave & ones
            self.state[node - STATE] = wave >> left
        self._evaluate(knot.scalar, ones)
        for i, node in enumerate(knot.exports):
            exported[i] |= waves[node] << done

    def _as_register(self, knot: Knot) -> linear.Register | None:
        """Simulate a knot as a linear feedback shift register from now on, if it is one."""
        if not linear.is_linear(self._step, knot):
            return None
        known = 2 * len(knot.states) + 4
        states = orbit.walk(knot, self.waves, [], self._state_of(knot), known)
        ones = self.waves[1] = (1 << known) - 1
        for (node, _), wave in zip(knot.states, states, strict=True):
            self.waves[node] = wave & ones
        self._evaluate(knot.scalar, ones)
        self.work += known * len(knot.scalar) * GATE_COST
        self.opaque = True
        register = self._registers[knot.states[0][0]] = linear.Register(
            {
                node: linear.Sequence(orbit.bits_of(self.waves[node], known).tolist())
                for node in knot.used
            }
        )
        return register

    def _by_table(self, knot: Knot, steps: int) -> list[int]:
        """The waves of the state bits of a knot without inputs, over ``steps`` steps plus one."""
        key = knot.states[0][0]
        if key not in self._tables:
            self._tables[key] = orbit.table(knot, len(self.waves))
            self.work += len(knot.scalar) << len(knot.states) >> 4
        first = sum(bit << i for i, bit in enumerate(self._state_of(knot)))
        path, back = orbit.orbit(self._tables[key], first)
        self.work += len(self._tables[key]) * 64
        waves = []
        for wave in orbit.waves_of(path, len(knot.states)):
            again = repeated(wave >> back, len(path) - back, max(steps + 1 - back, 0))
            waves.append((wave | again << back) & ((1 << (steps + 1)) - 1))
        return waves
