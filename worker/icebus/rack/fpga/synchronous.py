"""Counting the pulses of a circuit whose every change follows the 48 MHz clock, exactly.

Blocks of steps are simulated, each twice as long as the one before, until the state has returned to
an earlier one; from there on everything repeats. The states looked for are the first one (a divider
returns to it) and that at the start of an earlier block (as in Brent's algorithm, so that whatever
precedes a period does no harm).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from icebus.rack.fpga.block import Blocks
from icebus.rack.fpga.plan import make_plan
from icebus.rack.fpga.steps import STATE
from icebus.rack.fpga.waves import first_difference

if TYPE_CHECKING:
    from icebus.rack.fpga.steps import Step

FIRST_BLOCK: Final = 512
LAST_BLOCK: Final = 1 << 16
"""Steps in the first and the longest block. Longer ones save nothing but the handling of gates."""

BUDGET: Final = 100_000_000
"""Word operations (see :mod:`icebus.rack.fpga.block`) after which a count is extrapolated; about
0.4 s of CPU."""


class Periodic:
    """The output of one circuit, known as far as somebody asked; reused for other windows."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._blocks = Blocks(make_plan(step))
        self._done = 0
        self._level = -1
        self._starts: list[int] = []
        self._rises: list[int] = []
        self._counts: list[int] = [0]
        self._references: list[tuple[int, tuple[int, ...]]] = [(0, step.initial)]
        self._size = FIRST_BLOCK
        self._period: tuple[int, int] | None = None

    def count(self, cycles: int) -> tuple[int, bool]:
        """Rising edges within the first ``cycles`` clock cycles, and whether that is exact."""
        steps = cycles * self._step.per_cycle
        while self._done <= steps and self._period is None:
            if self._blocks.work > BUDGET:
                return self._before(self._done - 1) * steps // (self._done - 1), False
            self._go_on()
        if self._done > steps or self._period is None:
            return self._before(steps), True
        first, last = self._period
        periods, rest = divmod(steps - first, last - first)
        start = self._before(first)
        return periods * (self._before(last) - start) + self._before(first + rest), True

    def _go_on(self) -> None:
        """Simulate another block."""
        blocks, size = self._blocks, self._size
        if self._done:
            self._references[1:] = [(self._done, tuple(blocks.state))]
        blocks.run(size)
        wave = blocks.waves[self._step.output]
        before = (wave << 1 | (self._level if self._level >= 0 else wave & 1)) & ((1 << size) - 1)
        self._level = wave >> (size - 1)
        rises = wave & ~before
        self._starts.append(self._done)
        self._rises.append(rises)
        self._counts.append(self._counts[-1] + rises.bit_count())
        self._period = self._returned(size)
        self._done += size
        self._size = min(2 * size, LAST_BLOCK)

    def _returned(self, size: int) -> tuple[int, int] | None:
        """Two steps with the same state, the later one in the last block."""
        waves, halves = self._blocks.waves, self._step.per_cycle == 2
        ones = (1 << size) - 1
        for at, state in self._references:
            same = ones // 3 if halves else ones
            if at == self._done:
                same &= ~1
            for i, value in enumerate(state):
                same &= waves[STATE + i] if value else waves[STATE + i] ^ ones
                if not same:
                    break
            if same:
                return at, self._done + first_difference(same)
        return None

    def _before(self, step: int) -> int:
        """Rising edges up to and including the one at ``step``, which has been simulated."""
        block = len(self._starts) - 1
        while self._starts[block] > step:
            block -= 1
        kept = (1 << (step - self._starts[block] + 1)) - 1
        return self._counts[block] + (self._rises[block] & kept).bit_count()
