"""Counters that something stops, resets or reverses now and then: dividers, by arithmetic.

Some nodes, the *controls*, are inputs of most of the flip-flops: the comparison that resets a
divider is one. While they keep their values the flip-flops may do nothing but count up or down, and
hold. Then the step at which a control changes follows from the counter's value and from the values
(as *cubes*: some bits are given, the others are free) that change it. So what happens is a list of
stretches, two for each time that a divider comes round, however long it counts in between.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from icebus.fpga.folding import Folding
from icebus.fpga.logic import compiled, restrict
from icebus.fpga.steps import STATE
from icebus.fpga.synchronous import Periodic

if TYPE_CHECKING:
    from icebus.fpga.steps import Step

_INVERT: Final = 0b01
_UP: Final = (0b0110, 0b1000)
_DOWN: Final = (0b1001, 0b1110)
"""How a bit changes with the carry into it, and the carry out of it."""

MOST_STRETCHES: Final = 400
"""After which simulating blocks of steps is cheaper."""

_FIRST_STEPS: Final = 4
"""A divider may start with its reset; if it does not count after that, it is none."""

_MOST_CUBES: Final = 64
_MOST_CONTROLS: Final = 3
_FEWEST_BITS: Final = 6

Cube = tuple[int, int]
"""State bits that are given (a mask), and their values."""


class TooMuch(Exception):
    """More than this way of counting is good for."""


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
        value = _gathered(state, self.bits)
        return value ^ (1 << len(self.bits)) - 1 if self.down else value

    def lasts(self, state: int) -> int | None:
        """Steps until a control changes; None if none ever does."""
        value = self.value(state)
        found = [
            _steps_to(value, given, wanted, len(self.bits))
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
    return compiled(table, len(inputs)), a, b, c, d


class Divider:
    """The output of a circuit in stretches, known as far as somebody asked.

    Raises:
        TooMuch: it isn't worth trying.
    """

    def __init__(self, step: Step) -> None:
        if step.per_cycle != 1 or step.states < _FEWEST_BITS:
            raise TooMuch
        self._step = step
        self._controls = _controls(step)
        self._cubes = _Cubes(step)
        self._gates = [_operation(table, inputs) for table, inputs in step.gates]
        self._modes: dict[tuple[int, ...], _Mode | None] = {}
        self._pattern: tuple[int, ...] = ()
        self._stretches: list[tuple[int, int, _Mode | None]] = []
        self._starts: list[int] = []
        self._counts: list[int] = []
        self._seen: dict[int, int] = {}
        self._period: tuple[int, int] | None = None
        state = sum(bit << i for i, bit in enumerate(step.initial))
        self._begin(0, state, self._nodes(state), 0)
        for _ in range(_FIRST_STEPS):
            if self._stretches[-1][2] is not None:
                break
            self._go_on()
        else:
            raise TooMuch

    @property
    def size(self) -> int:
        """Bytes this takes, roughly."""
        return 300 * (len(self._stretches) + len(self._gates))

    def grown_to(self, cycles: int) -> Divider | Periodic:
        """What can count that many cycles: this, or a simulation if there is too much going on."""
        try:
            while self._period is None and self._starts[-1] <= cycles:
                self._go_on()
        except TooMuch:
            return Periodic(self._step)
        return self

    def count(self, cycles: int) -> tuple[int, bool]:
        """Rising edges within the first ``cycles`` clock cycles, if it has grown; always exact."""
        if self._period is None or cycles < self._starts[-1]:
            return self._before(cycles), True
        first, last = self._period
        periods, rest = divmod(cycles - first, last - first)
        start = self._before(first)
        return periods * (self._before(last) - start) + self._before(first + rest), True

    def _before(self, step: int) -> int:
        """Rising edges up to and including the one at ``step``."""
        at = bisect_right(self._starts, step) - 1
        start, state, mode = self._stretches[at]
        within = mode.rises(state, step - start) if mode is not None else 0
        return self._counts[at] + within

    def _begin(self, start: int, state: int, nodes: list[int], count: int) -> None:
        pattern = tuple([nodes[control] for control in self._controls])
        # Most changes of a control last one step, so that it does not pay to look what that does.
        if pattern == self._pattern and pattern not in self._modes:
            self._modes[pattern] = self._mode(pattern)
        self._pattern = pattern
        self._stretches.append((start, state, self._modes.get(pattern)))
        self._starts.append(start)
        self._counts.append(count)
        self._seen[state] = start
        self._now = nodes

    def _go_on(self) -> None:
        """Find the next stretch, or the period."""
        if len(self._stretches) > MOST_STRETCHES:
            raise TooMuch
        start, state, mode = self._stretches[-1]
        count, output = self._counts[-1], self._now[self._step.output]
        if mode is None:
            steps = 1
            following = sum(self._now[node] << i for i, node in enumerate(self._step.following))
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
        nodes = self._nodes(following)
        count += nodes[self._step.output] & ~output & 1
        before = self._seen.get(following)
        self._begin(start + steps, following, nodes, count)
        if before is not None:
            self._period = before, start + steps

    def _nodes(self, state: int) -> list[int]:
        nodes = [0, 1, 0, *[state >> i & 1 for i in range(self._step.states)]]
        for function, a, b, c, d in self._gates:
            nodes.append(function(nodes[a], nodes[b], nodes[c], nodes[d], 1))
        return nodes

    def _mode(self, pattern: tuple[int, ...]) -> _Mode | None:
        """What flip-flops do with the controls so; None if that is more than counting."""
        step = self._step
        given = dict(zip(self._controls, pattern, strict=True))
        folding = Folding(step.states)
        nodes = folding.nodes
        for i, (table, inputs) in enumerate(step.gates, STATE + step.states):
            value = folding.gate(table, tuple([nodes[node] for node in inputs]))
            nodes.append(given.get(i, value))
        following = [nodes[node] for node in step.following]
        found = _counter(folding, following)
        output = nodes[step.output]
        if found is None:
            return None
        bits, down = found
        _, seen = folding.made(output)
        if any(node >= STATE + step.states or node - STATE in bits for node in seen):
            return None
        mask = sum(1 << bit for bit in bits)
        ends = []
        for control, value in given.items():
            for cube_mask, cube_value in self._cubes.of(control, 1 - value):
                inside = _gathered(cube_mask, bits), _gathered(cube_value, bits)
                if down:
                    inside = inside[0], inside[0] & ~inside[1]
                ends.append(((cube_mask & ~mask, cube_value & ~mask), inside))
        counted = bits.index(output - STATE) if output - STATE in bits else -1
        return _Mode(bits, mask, down, counted, tuple(ends))


def _controls(step: Step) -> tuple[int, ...]:
    """Gates that most of the flip-flops look at."""
    first = STATE + step.states
    users: Counter[int] = Counter()
    for node in step.following:
        if node >= first:
            users.update(i for i in step.gates[node - first][1] if i >= first)
    found = sorted(node for node, times in users.items() if 2 * times > step.states)
    if not 0 < len(found) <= _MOST_CONTROLS:
        raise TooMuch
    return tuple(found)


def _counter(folding: Folding, following: list[int]) -> tuple[tuple[int, ...], bool] | None:
    """The state bits, lowest first, of the counter that all flip-flops that don't hold make up."""
    moving = [i for i, node in enumerate(following) if node != STATE + i]
    by_carry: dict[int, tuple[int, int]] = {}
    lowest = -1
    for i in moving:
        table, inputs = folding.made(following[i])
        state = STATE + i
        if table == _INVERT and inputs == (state,):
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
        carry = folding.find(kinds[1], state, carry)
    if len(bits) != len(moving):
        return None
    return tuple(state - STATE for state in bits), kinds is _DOWN


class _Cubes:
    """For which states a node of a step is 0 or 1."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._known: dict[tuple[int, int], tuple[Cube, ...]] = {}

    def of(self, node: int, wanted: int) -> tuple[Cube, ...]:
        """All states with that value, as cubes.

        Raises:
            TooMuch: they are too many.
        """
        if node <= 1:
            return ((0, 0),) if node == wanted else ()
        if node < STATE + self._step.states:
            bit = 1 << (node - STATE)
            return ((bit, bit if wanted else 0),)
        found = self._known.get((node, wanted))
        if found is None:
            table, inputs = self._step.gates[node - STATE - self._step.states]
            found = tuple(dict.fromkeys(self._rows(table, inputs, wanted)))
            if len(found) > _MOST_CUBES:
                raise TooMuch
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
                raise TooMuch
        return found


def _gathered(state: int, bits: tuple[int, ...]) -> int:
    return sum((state >> bit & 1) << i for i, bit in enumerate(bits))


def _steps_to(value: int, given: int, wanted: int, bits: int) -> int | None:
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


def recognise(step: Step) -> Divider | None:
    """The divider that a step is, if it is one."""
    try:
        return Divider(step)
    except TooMuch:
        return None
