"""A plan carried out for a block of steps at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from icebus.rack.fpga.plan import Knot, Plan, Single
from icebus.rack.fpga.steps import STATE
from icebus.rack.fpga.waves import delayed, first_difference, scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from icebus.rack.fpga.plan import Operation

FIRST_RUN: Final = 256
"""Steps for which a knot's guess is tried first; each time it holds, four times as many."""

GATE_COST: Final = 8
"""What handling a gate costs whatever the number of steps, in words of 64 steps."""


class Blocks:
    """The running simulation of a plan.

    Attributes:
        state: the values of the state bits before the next step.
        waves: by node, the values over the steps of the last block.
        work: how much has been computed, in operations on a word of 64 steps.
    """

    def __init__(self, plan: Plan) -> None:
        step = plan.step
        self._groups = plan.groups
        self._following = step.following
        self._halves = step.per_cycle == 2
        self.state = list(step.initial)
        self.waves: list[int] = [0] * (STATE + step.states + len(step.gates))
        self.work = 0
        self._runs: dict[tuple[int, tuple[int, ...]], int] = {}

    def run(self, steps: int) -> None:
        """Go on for ``steps`` (even) steps."""
        waves = self.waves
        ones = (1 << steps) - 1
        waves[1] = ones
        waves[2] = ones // 3 if self._halves else 0
        for group in self._groups:
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
        self.work += (len(group.gates) + 1) * (GATE_COST + (steps >> 6))
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
            self.work += 4 * steps.bit_length() * (1 + (steps >> 6))
        elif state:
            waves[state] = delayed(waves[group.following], self.state[state - STATE], ones)
        self._evaluate(group.gates, ones)

    def _knot(self, knot: Knot, steps: int) -> None:
        waves = self.waves
        outside = [waves[node] for node in knot.inputs]
        exported = [0] * len(knot.exports)
        done = 0
        while done < steps:
            run, guess = self._prepare(knot, outside, done, steps - done)
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
            self._runs[key] = run * 4 if valid == run else valid + (valid >> 3) + 1
            done += valid
        for node, wave in zip(knot.inputs, outside, strict=True):
            waves[node] = wave
        for node, wave in zip(knot.exports, exported, strict=True):
            waves[node] = wave

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
