"""Counting the pulses of a circuit whose every change follows the 48 MHz clock, exactly.

Blocks of steps are simulated, each longer than the one before, until the state has returned to
an earlier one; from there on everything repeats. The states looked for are the first one (a divider
returns to it) and that at the start of an earlier block (as in Brent's algorithm, so that whatever
precedes a period does no harm).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from icebus.fpga import words
from icebus.fpga.block import Exhausted
from icebus.fpga.long_block import LONG, LongBlocks
from icebus.fpga.orbit import positions
from icebus.fpga.pack import pack
from icebus.fpga.plan import make_plan
from icebus.fpga.steps import STATE
from icebus.fpga.waves import first_difference

if TYPE_CHECKING:
    from icebus.fpga.steps import Step

BLOCKS: Final = (1 << 8, 1 << 12, 1 << 15, 1 << 16)
"""Steps in the first blocks, which are of integers. The first is one that any circuit can afford,
the others grow so that a period is found for about as much work as simulating it takes."""

LAST_BLOCK: Final = BLOCKS[-1]

PASSING: Final = 130
"""Steps in a block between long ones, in which a guess fails: it is within the first 64."""

BUDGET: Final = 150_000_000
"""Operations on 64 steps (see :mod:`icebus.fpga.block`) after which a count is extrapolated:
about 0.5 s of CPU. A count of work, not of time, so that a busy machine counts the same."""

_SPARSE: Final = 256
"""With fewer pulses than one in so many steps, a block's pulses are kept as a list."""

Rises = int | npt.NDArray[np.uint32]


class Periodic:
    """The output of one circuit, known as far as somebody asked; reused for other windows."""

    def __init__(self, step: Step) -> None:
        self._step = step = pack(step)
        self._blocks = LongBlocks(make_plan(step), BUDGET)
        self._exhausted = False
        self._done = 0
        self._level = -1
        self._starts: list[int] = []
        self._rises: list[Rises] = []
        self._counts: list[int] = [0]
        self._references: list[tuple[int, tuple[int, ...]]] = [(0, step.initial)]
        self._size = BLOCKS[0]
        self._period: tuple[int, int] | None = None

    @property
    def size(self) -> int:
        """Bytes this takes, roughly."""
        rises = sum(
            kept.bit_length() // 8 if isinstance(kept, int) else kept.nbytes for kept in self._rises
        )
        return rises + self._blocks.size

    def count(self, cycles: int) -> tuple[int, bool]:
        """Rising edges within the first ``cycles`` clock cycles, and whether that is exact."""
        try:
            return self._count(cycles * self._step.per_cycle)
        finally:
            self._blocks.release()

    def _count(self, steps: int) -> tuple[int, bool]:
        while self._done <= steps and self._period is None:
            if self._exhausted:
                return self._extrapolated(steps), False
            try:
                self._go_on()
            except Exhausted:
                self._exhausted = True
        if self._done > steps or self._period is None:
            return self._before(steps), True
        first, last = self._period
        periods, rest = divmod(steps - first, last - first)
        start = self._before(first)
        return periods * (self._before(last) - start) + self._before(first + rest), True

    def _extrapolated(self, steps: int) -> int:
        """The count if the circuit goes on as it did so far."""
        known = max(self._done - 1, 1)
        return self._before(known) * steps // known if self._done else 0

    def _go_on(self) -> None:
        """Simulate another block."""
        blocks = self._blocks
        if self._done:
            self._references[1:] = [(self._done, tuple(blocks.state))]
        size = self._size
        steps = blocks.run_long() if size > LAST_BLOCK else 0
        long = steps > 0
        if steps:
            size = steps
            wave = words.to_integer(blocks.arrays[self._step.output], LONG >> 6)
            wave &= (1 << size) - 1
        else:
            size = min(size, LAST_BLOCK)
            blocks.run(size)
            wave = blocks.waves[self._step.output]
        before = (wave << 1 | (self._level if self._level >= 0 else wave & 1)) & ((1 << size) - 1)
        self._level = wave >> (size - 1)
        rises = wave & ~before
        count = rises.bit_count()
        self._starts.append(self._done)
        self._counts.append(self._counts[-1] + count)
        self._rises.append(
            positions(rises, size) if size > _SPARSE and count < size // _SPARSE else rises
        )
        if not blocks.opaque:
            self._period = self._returned_long(size) if long else self._returned(size)
        self._done += size
        if long:
            self._size = LAST_BLOCK if blocks.busy else LONG if size == LONG else PASSING
        elif self._size == PASSING:
            self._size = LONG
        elif self._size < LAST_BLOCK:
            self._size = BLOCKS[BLOCKS.index(self._size) + 1]
        elif not blocks.busy:
            self._size = LONG

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

    def _returned_long(self, size: int) -> tuple[int, int] | None:
        """As :meth:`_returned`, of a long block."""
        arrays = self._blocks.arrays[STATE : STATE + self._step.states]
        order = sorted(range(len(arrays)), key=lambda i: len(arrays[i]))
        for at, state in self._references:
            same = words.EVEN if self._step.per_cycle == 2 else words.ALL_ONE
            for i in order:
                first, second, _, _ = words.matched(same, arrays[i])
                same = first & second if state[i] else first & ~second
                if words.is_zero(same):
                    break
            else:
                wave = words.to_integer(same, LONG >> 6) & ((1 << size) - 1)
                if at == self._done:
                    wave &= ~1
                if wave:
                    return at, self._done + first_difference(wave)
        return None

    def _before(self, step: int) -> int:
        """Rising edges up to and including the one at ``step``, which has been simulated."""
        block = bisect_right(self._starts, step) - 1
        inside = step - self._starts[block]
        rises = self._rises[block]
        if isinstance(rises, int):
            return self._counts[block] + (rises & ((1 << (inside + 1)) - 1)).bit_count()
        return self._counts[block] + int(np.searchsorted(rises, inside, side="right"))
