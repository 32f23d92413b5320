"""Counters that something stops, resets or reverses now and then: dividers, by arithmetic.

Some nodes, the *controls*, are inputs of most of the flip-flops: the comparison that resets a
divider is one. While they keep their values the flip-flops may do nothing but count up or down, and
hold. Then the step at which a control changes follows from the counter's value and from the values
(as *cubes*: some bits are given, the others are free) that change it. So what happens is a list of
intervals, two for each time that a divider comes round, however long it counts in between.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from icebus.fpga._engines.synchronous.cubes import Cube, Cubes, TooComplex, gathered, steps_to
from icebus.fpga._engines.synchronous.period_search import PeriodSearch, count_with_period
from icebus.fpga._netlist.truth_tables import AND, INVERT, OR, XNOR, XOR, compile_table
from icebus.fpga._state_machine.state_machine import STATE, StateMachineBuilder

if TYPE_CHECKING:
    from icebus.fpga._state_machine.state_machine import StateMachine

_UP: Final = (XOR, AND)
_DOWN: Final = (XNOR, OR)
"""How a bit changes with the carry into it, and the carry out of it."""

MOST_INTERVALS: Final = 400
"""After which simulating blocks of steps is cheaper."""

_FIRST_STEPS: Final = 4
"""A divider may start with its reset; if it does not count after that, it is none."""

_MOST_CONTROLS: Final = 3
_FEWEST_BITS: Final = 6


@dataclass(frozen=True, slots=True)
class _Mode:
    """What the flip-flops do while the controls have certain values.

    Attributes:
        bits: the counter's state bits, lowest first.
        mask: these, as a mask of the state.
        down: whether it counts down.
        output: the counter's bit that is counted (-1 if the output does not change).
        ends: for each cube that ends this, the bits that have to be held so already, and the given
            bits of the counter, both as a mask and values.
    """

    bits: tuple[int, ...]
    mask: int
    down: bool
    output: int
    ends: tuple[tuple[Cube, Cube], ...]

    def value(self, state: int) -> int:
        """The counter's value, upside down if it counts down: so it always counts up."""
        value = gathered(state, self.bits)
        return value ^ (1 << len(self.bits)) - 1 if self.down else value

    def lasts(self, state: int) -> int | None:
        """Steps until a control changes; None if none ever does."""
        value = self.value(state)
        found = [
            steps_to(value, given, wanted, len(self.bits))
            for held, (given, wanted) in self.ends
            if state & held[0] == held[1]
        ]
        return min([steps for steps in found if steps is not None], default=None)

    def after(self, state: int, steps: int) -> int:
        """The state after so many steps."""
        value = self.value(state) + steps & (1 << len(self.bits)) - 1
        if self.down:
            value ^= (1 << len(self.bits)) - 1
        state &= ~self.mask
        for i, bit in enumerate(self.bits):
            state |= (value >> i & 1) << bit
        return state

    def rises(self, state: int, steps: int) -> int:
        """Rising edges of the counted bit within so many steps."""
        if self.output < 0:
            return 0
        size = 1 << self.output
        value = self.value(state)
        edge = 0 if self.down else size  # upside down, a fall is a rise
        return (value + steps - edge) // (2 * size) - (value - edge) // (2 * size)


_Operation = tuple[Callable[[Any, Any, Any, Any, Any], Any], int, int, int, int]


def _operation(table: int, inputs: tuple[int, ...]) -> _Operation:
    a, b, c, d = (*inputs, 0, 0, 0, 0)[:4]
    return compile_table(table, len(inputs)), a, b, c, d


class Divider:
    """The output of a circuit in intervals, known as far as somebody asked.

    Raises:
        TooComplex: it is no divider, or one that isn't worth trying.
    """

    def __init__(self, machine: StateMachine) -> None:
        if machine.per_cycle != 1 or machine.states < _FEWEST_BITS:
            raise TooComplex
        self._machine = machine
        self._controls = _controls(machine)
        self._cubes = Cubes(machine)
        self._gates = [_operation(table, inputs) for table, inputs in machine.gates]
        self._modes: dict[tuple[int, ...], _Mode | None] = {}
        self._pattern: tuple[int, ...] = ()
        self._intervals: list[tuple[int, int, _Mode | None]] = []
        self._starts: list[int] = []
        self._counts: list[int] = []
        self._seen: dict[int, int] = {}
        self._period: tuple[int, int] | None = None
        state = sum(bit << i for i, bit in enumerate(machine.initial))
        self._start_interval(0, state, self._evaluate(state), 0)
        for _ in range(_FIRST_STEPS):
            if self._intervals[-1][2] is not None:
                break
            self._add_interval()
        else:
            raise TooComplex

    @property
    def size(self) -> int:
        """Bytes this takes, roughly."""
        return 300 * (len(self._intervals) + len(self._gates))

    def extended_to(self, cycles: int) -> Divider | PeriodSearch:
        """What can count that many cycles: this, or a simulation if there is too much going on."""
        try:
            while self._period is None and self._starts[-1] <= cycles:
                self._add_interval()
        except TooComplex:
            return PeriodSearch(self._machine)
        return self

    def count(self, cycles: int, start: int = 0) -> tuple[int, bool]:
        """Rising edges within ``cycles`` clock cycles from ``start`` on, always exact.

        Extend it to the end of these first.
        """
        return self._up_to(start + cycles) - self._up_to(start), True

    def _up_to(self, step: int) -> int:
        """Rising edges up to a step that is known, if only by the period."""
        if self._period is None or step < self._starts[-1]:
            return self._before(step)
        return count_with_period(self._before, self._period, step)

    def _before(self, step: int) -> int:
        """Rising edges up to and including the one at ``step``."""
        at = bisect_right(self._starts, step) - 1
        start, state, mode = self._intervals[at]
        within = mode.rises(state, step - start) if mode is not None else 0
        return self._counts[at] + within

    def _start_interval(self, start: int, state: int, values: list[int], count: int) -> None:
        pattern = tuple([values[control] for control in self._controls])
        # Most changes of a control last one step, so that it does not pay to look what that does.
        if pattern == self._pattern and pattern not in self._modes:
            self._modes[pattern] = self._mode(pattern)
        self._pattern = pattern
        self._intervals.append((start, state, self._modes.get(pattern)))
        self._starts.append(start)
        self._counts.append(count)
        self._seen[state] = start
        self._values = values

    def _add_interval(self) -> None:
        """Find the next interval, or the period."""
        if len(self._intervals) > MOST_INTERVALS:
            raise TooComplex
        start, state, mode = self._intervals[-1]
        count, output = self._counts[-1], self._values[self._machine.output]
        if mode is None:
            steps = 1
            following = sum(
                self._values[node] << i for i, node in enumerate(self._machine.following)
            )
        else:
            lasts = mode.lasts(state)
            if lasts is None:
                # Nothing ever changes: the counter alone comes round.
                lasts = 1 << len(mode.bits)
            steps = lasts
            following = mode.after(state, steps)
            count += mode.rises(state, steps - 1)
            if mode.output >= 0:
                output = mode.after(state, steps - 1) >> mode.bits[mode.output] & 1
        values = self._evaluate(following)
        count += values[self._machine.output] & ~output & 1
        before = self._seen.get(following)
        self._start_interval(start + steps, following, values, count)
        if before is not None:
            self._period = before, start + steps

    def _evaluate(self, state: int) -> list[int]:
        """The values of all nodes in a state."""
        values = [0, 1, 0, *[state >> i & 1 for i in range(self._machine.states)]]
        for function, a, b, c, d in self._gates:
            values.append(function(values[a], values[b], values[c], values[d], 1))
        return values

    def _mode(self, pattern: tuple[int, ...]) -> _Mode | None:
        """What flip-flops do with the controls so; None if that is more than counting."""
        machine = self._machine
        given = dict(zip(self._controls, pattern, strict=True))
        builder = StateMachineBuilder(machine.states)
        nodes = builder.nodes
        for i, (table, inputs) in enumerate(machine.gates, STATE + machine.states):
            value = builder.gate(table, tuple([nodes[node] for node in inputs]))
            nodes.append(given.get(i, value))
        following = [nodes[node] for node in machine.following]
        found = _counter(builder, following)
        output = nodes[machine.output]
        if found is None:
            return None
        bits, down = found
        _, seen = builder.made(output)
        if any(node >= STATE + machine.states or node - STATE in bits for node in seen):
            return None
        mask = sum(1 << bit for bit in bits)
        ends = []
        for control, value in given.items():
            for cube_mask, cube_value in self._cubes.of(control, 1 - value):
                inside = gathered(cube_mask, bits), gathered(cube_value, bits)
                if down:
                    inside = inside[0], inside[0] & ~inside[1]
                ends.append(((cube_mask & ~mask, cube_value & ~mask), inside))
        counted = bits.index(output - STATE) if output - STATE in bits else -1
        return _Mode(bits, mask, down, counted, tuple(ends))


def _controls(machine: StateMachine) -> tuple[int, ...]:
    """Gates that most of the flip-flops look at."""
    first = STATE + machine.states
    users: Counter[int] = Counter()
    for node in machine.following:
        if node >= first:
            users.update(i for i in machine.gates[node - first][1] if i >= first)
    found = sorted(node for node, times in users.items() if 2 * times > machine.states)
    if not 0 < len(found) <= _MOST_CONTROLS:
        raise TooComplex
    return tuple(found)


def _counter(
    builder: StateMachineBuilder, following: list[int]
) -> tuple[tuple[int, ...], bool] | None:
    """The state bits, lowest first, of the counter that all flip-flops that don't hold make up."""
    moving = [i for i, node in enumerate(following) if node != STATE + i]
    by_carry: dict[int, tuple[int, int]] = {}
    lowest = -1
    for i in moving:
        table, inputs = builder.made(following[i])
        state = STATE + i
        if table == INVERT and inputs == (state,):
            lowest = state
        elif len(inputs) == 2 and state in inputs:
            by_carry[inputs[inputs[0] == state]] = state, table
    if lowest < 0:
        return None if moving else ((), False)
    bits, carry, kinds = [lowest], lowest, _UP
    while carry in by_carry:
        state, table = by_carry.pop(carry)
        if len(bits) == 1:
            kinds = _DOWN if table == _DOWN[0] else _UP
        if table != kinds[0]:
            return None
        bits.append(state)
        carry = builder.find(kinds[1], state, carry)
    if len(bits) != len(moving):
        return None
    return tuple(state - STATE for state in bits), kinds is _DOWN


def recognise(machine: StateMachine) -> Divider | None:
    """The divider that a state machine is, if it is one."""
    try:
        return Divider(machine)
    except TooComplex:
        return None
