"""Finding the period of a state machine: pulses are counted until then, and by arithmetic after.

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

from icebus.fpga._engines.synchronous import array_waveforms
from icebus.fpga._engines.synchronous.blocks import BudgetExceeded
from icebus.fpga._engines.synchronous.integer_waveforms import first_one, positions
from icebus.fpga._engines.synchronous.long_blocks import LONG, LongBlocks
from icebus.fpga._engines.synchronous.schedule import make_schedule
from icebus.fpga._state_machine.state_machine import STATE, merge_gates

if TYPE_CHECKING:
    from collections.abc import Callable

    from icebus.fpga._state_machine.state_machine import StateMachine

BLOCKS: Final = (1 << 8, 1 << 12, 1 << 15, 1 << 16)
"""Steps in the first blocks, which are of integers. The first is one that any circuit can afford,
the others grow so that a period is found for about as much work as simulating it takes."""

LAST_BLOCK: Final = BLOCKS[-1]

AFTER_FAILED_GUESS: Final = 130
"""Steps in a block between long ones, in which a guess fails: it is within the first 64."""

BUDGET: Final = 150_000_000
"""Operations on 64 steps (see :class:`.blocks.Blocks`) after which a count is extrapolated: about
0.5 s of CPU. A count of work, not of time, so that a busy machine counts the same."""

_SPARSE: Final = 256
"""With fewer pulses than one in so many steps, a block's pulses are kept as a list."""

Rises = int | npt.NDArray[np.uint32]


def count_with_period(before: Callable[[int], int], period: tuple[int, int], steps: int) -> int:
    """Rising edges within so many steps of what repeats.

    Args:
        before: gives those up to a step, at most the last one of the period.
        period: two steps with the same state.
        steps: not less than the first of these.
    """
    first, last = period
    periods, rest = divmod(steps - first, last - first)
    at_first = before(first)
    return periods * (before(last) - at_first) + before(first + rest)


class PeriodSearch:
    """The output of one circuit, known as far as somebody asked; reused for other windows."""

    def __init__(self, machine: StateMachine) -> None:
        self._machine = machine = merge_gates(machine)
        self._blocks = LongBlocks(make_schedule(machine), BUDGET)
        self._exhausted = False
        self._done = 0
        self._level = -1
        self._starts: list[int] = []
        self._rises: list[Rises] = []
        self._counts: list[int] = [0]
        self._references: list[tuple[int, tuple[int, ...]]] = [(0, machine.initial)]
        self._size = BLOCKS[0]
        self._period: tuple[int, int] | None = None

    @property
    def size(self) -> int:
        """Bytes this takes, roughly."""
        rises = sum(
            kept.bit_length() // 8 if isinstance(kept, int) else kept.nbytes for kept in self._rises
        )
        return rises + self._blocks.size

    def count(self, cycles: int, start: int = 0) -> tuple[int, bool]:
        """Rising edges within so many clock cycles from ``start`` on, and whether it is exact."""
        first = start * self._machine.per_cycle
        last = first + cycles * self._machine.per_cycle
        try:
            self._simulate(last)
            if self._done <= last and self._period is None:
                return self._extrapolated(first, last), False
            return self._up_to(last) - self._up_to(first), True
        finally:
            self._blocks.release()

    def _simulate(self, steps: int) -> None:
        """Simulate until so many steps are known, a period is, or the budget is used up."""
        while self._done <= steps and self._period is None and not self._exhausted:
            try:
                self._simulate_block()
            except BudgetExceeded:
                self._exhausted = True

    def _up_to(self, step: int) -> int:
        """Rising edges up to a step that is known, if only by the period."""
        if self._done > step or self._period is None:
            return self._before(step)
        return count_with_period(self._before, self._period, step)

    def _extrapolated(self, first: int, last: int) -> int:
        """The count if the circuit goes on as it did so far, what was before ``first`` aside."""
        known = self._done - 1
        if known <= first:
            return self._before(known) * (last - first) // known if known > 0 else 0
        return (self._before(known) - self._before(first)) * (last - first) // (known - first)

    def _simulate_block(self) -> None:
        """Simulate another block."""
        blocks = self._blocks
        if self._done:
            self._references[1:] = [(self._done, tuple(blocks.state))]
        size = self._size
        steps = blocks.run_long() if size > LAST_BLOCK else 0
        long = steps > 0
        if steps:
            size = steps
            waveform = array_waveforms.to_integer(blocks.arrays[self._machine.output], LONG >> 6)
            waveform &= (1 << size) - 1
        else:
            size = min(size, LAST_BLOCK)
            blocks.run(size)
            waveform = blocks.waveforms[self._machine.output]
        before = (waveform << 1 | (self._level if self._level >= 0 else waveform & 1)) & (
            (1 << size) - 1
        )
        self._level = waveform >> (size - 1)
        rises = waveform & ~before
        count = rises.bit_count()
        self._starts.append(self._done)
        self._counts.append(self._counts[-1] + count)
        self._rises.append(
            positions(rises, size) if size > _SPARSE and count < size // _SPARSE else rises
        )
        if not blocks.states_unknown:
            self._period = self._period_in_long_block(size) if long else self._period_in_block(size)
        self._done += size
        if long:
            self._size = (
                LAST_BLOCK if blocks.changes_often else LONG if size == LONG else AFTER_FAILED_GUESS
            )
        elif self._size == AFTER_FAILED_GUESS:
            self._size = LONG
        elif self._size < LAST_BLOCK:
            self._size = BLOCKS[BLOCKS.index(self._size) + 1]
        elif not blocks.changes_often:
            self._size = LONG

    def _period_in_block(self, size: int) -> tuple[int, int] | None:
        """Two steps with the same state, the later one in the last block."""
        waveforms, halves = self._blocks.waveforms, self._machine.per_cycle == 2
        ones = (1 << size) - 1
        for at, state in self._references:
            same = ones // 3 if halves else ones
            if at == self._done:
                same &= ~1
            for i, value in enumerate(state):
                same &= waveforms[STATE + i] if value else waveforms[STATE + i] ^ ones
                if not same:
                    break
            if same:
                return at, self._done + first_one(same)
        return None

    def _period_in_long_block(self, size: int) -> tuple[int, int] | None:
        """As :meth:`_period_in_block`, of a long block."""
        arrays = self._blocks.arrays[STATE : STATE + self._machine.states]
        order = sorted(range(len(arrays)), key=lambda i: len(arrays[i]))
        for at, state in self._references:
            same = array_waveforms.EVEN if self._machine.per_cycle == 2 else array_waveforms.ALL_ONE
            for i in order:
                first, second, _, _ = array_waveforms.broadcast(same, arrays[i])
                same = first & second if state[i] else first & ~second
                if array_waveforms.is_zero(same):
                    break
            else:
                waveform = array_waveforms.to_integer(same, LONG >> 6) & ((1 << size) - 1)
                if at == self._done:
                    waveform &= ~1
                if waveform:
                    return at, self._done + first_one(waveform)
        return None

    def _before(self, step: int) -> int:
        """Rising edges up to and including the one at ``step``, which has been simulated."""
        block = bisect_right(self._starts, step) - 1
        inside = step - self._starts[block]
        rises = self._rises[block]
        if isinstance(rises, int):
            return self._counts[block] + (rises & ((1 << (inside + 1)) - 1)).bit_count()
        return self._counts[block] + int(np.searchsorted(rises, inside, side="right"))
