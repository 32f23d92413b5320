"""An event-driven simulation of gates and flip-flops with delays.

A cell follows its inputs after its delay, and not at all if they take back before what they asked
for (*inertial* delay: a pulse shorter than the delay of a cell does not pass it). So every cell has
one pending change at most, and the state of the whole is the cells' values and when each of the
pending changes is due. When this comes back at the same phase of the clock, everything repeats
from there on.

A flip-flop takes what its inputs are at the very time of its clock's edge; there is no setup time
and no metastability.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from random import Random
from typing import TYPE_CHECKING, Final

from icebus.fpga._engines.loops.delays import HALF
from icebus.fpga._netlist.netlist import CLOCK, FIRST, ONE, Flop, Gate, Netlist

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from icebus.fpga._engines.loops.pulse_counters import EdgeCounter, PioCounter

BUDGET: Final = 200_000
"""Events, and inputs that these reach, after which a simulation ends: 0.1 to 0.25 s of CPU. A count
of work, not of time, so that a busy machine counts the same."""

FOREVER: Final = 1 << 62

_SIGNALS: Final = 20
"""Bits of a signal's number in an event; a device has 5,280 logic cells, so some 10,000 signals."""

_SIGNAL: Final = (1 << _SIGNALS) - 1

_SWEEPS: Final = 4
"""Rounds in which gates settle before time begins. What has not settled by then goes on."""

_DATA, _ENABLE, _RESET, _OWN = 1, 2, 4, 8
"""Weights of a flip-flop's inputs and of its own value in the rows of its table."""

_NONE: Final = -1


@dataclass(frozen=True, slots=True)
class PulseTrain:
    """The pulses of a circuit as far as they were simulated.

    Attributes:
        counted: when each was counted, ascending.
        until: what is before is known.
        period: with which everything repeats from ``until - period`` on; 0 if that isn't known.
    """

    counted: Sequence[int]
    until: int
    period: int

    def between(self, start: int, end: int) -> int:
        """Pulses counted from ``start`` to before ``end``.

        As it went on so far, if nothing better is known; what was before ``start`` aside.
        """
        if end <= self.until or self.period:
            return self._before(end) - self._before(start)
        if self.until <= start:
            return len(self.counted) * (end - start) // max(self.until, 1)
        known = len(self.counted) - self._before(start)
        return known * (end - start) // (self.until - start)

    def _before(self, end: int) -> int:
        """Pulses counted before ``end``, which is known, if only by the period."""
        if end <= self.until:
            return bisect_left(self.counted, end)
        start = self.until - self.period
        periods, rest = divmod(end - start, self.period)
        at_start = self._before(start)
        return periods * (len(self.counted) - at_start) + self._before(start + rest)


class EventSimulation:
    """The cone of one signal of a circuit, from configuration on.

    ``delays`` are those of all cells of the circuit; there must be no black boxes in the cone.
    """

    def __init__(self, netlist: Netlist, delays: Sequence[int], output: int) -> None:
        size = FIRST + len(netlist.cells)
        self._output = output
        self._delays = [HALF] * FIRST + list(delays)
        self._values = [0] * size
        self._values[ONE] = 1
        self._tables = [0] * size
        self._rows = [0] * size
        self._due = [_NONE] * size
        self._heap: list[int] = []
        # By signal: cells with an input that it drives, and what a change of it adds to the rows.
        self._gates: list[list[tuple[int, int]]] = [[] for _ in range(size)]
        self._sampled: list[list[tuple[int, int]]] = [[] for _ in range(size)]
        self._resets: list[list[tuple[int, int]]] = [[] for _ in range(size)]
        # By the level it changes to, by signal: the flip-flops that this clocks.
        self._edges: tuple[list[list[int]], list[list[int]]] = (
            [[] for _ in range(size)],
            [[] for _ in range(size)],
        )
        members = _cone(netlist, output)
        for signal in members:
            self._connect(signal, netlist)
        self._settle(netlist, members)
        self._begin(netlist, members)

    def run(self, counter: PioCounter | EdgeCounter) -> PulseTrain:
        """Simulate until everything is at rest, repeats, or took too much work."""
        gates, sampled, resets, edges = self._gates, self._sampled, self._resets, self._edges
        values, tables, rows, delays = self._values, self._tables, self._rows, self._delays
        due, heap, output = self._due, self._heap, self._output
        random = Random(0)
        hash_keys = [random.getrandbits(64) for _ in values]
        clocked = due[CLOCK] != _NONE
        checkpoint = CLOCK if clocked else output
        seen: dict[tuple[object, ...], int] = {}
        work = state = now = 0
        while heap:
            event = heappop(heap)
            now, signal = event >> _SIGNALS, event & _SIGNAL
            if due[signal] != now:
                continue  # it was taken back
            due[signal] = _NONE
            before = values[signal]
            value = values[signal] = 1 - before
            state ^= hash_keys[signal]
            if signal == output:
                counter.hold(before, now)
            for cell in edges[value][signal]:
                self._schedule(cell, tables[cell] >> rows[cell] & 1, now)
            for cell, weight in sampled[signal]:
                rows[cell] ^= weight
            for cell, weight in resets[signal]:
                rows[cell] ^= weight
                if rows[cell] & _RESET:
                    self._schedule(cell, tables[cell] >> rows[cell] & 1, now)
            reached = gates[signal]
            for cell, weight in reached:
                row = rows[cell] = rows[cell] ^ weight
                if tables[cell] >> row & 1 == values[cell]:
                    due[cell] = _NONE
                elif due[cell] == _NONE:
                    at = due[cell] = now + delays[cell]
                    heappush(heap, at << _SIGNALS | cell)
            work += 2 + len(reached) + len(sampled[signal]) + 2 * len(edges[value][signal])
            if signal == CLOCK:
                due[CLOCK] = now + HALF
                heappush(heap, now + HALF << _SIGNALS | CLOCK)
            if signal == checkpoint and value:
                counter.hold(values[output], now)
                base = now << _SIGNALS
                pending = frozenset([e - base for e in heap if due[e & _SIGNAL] == e >> _SIGNALS])
                first = seen.setdefault((state, counter.state(), pending), now)
                if first < now:
                    return PulseTrain(counter.counted, now, now - first)
                work += 4 + len(heap)
            if work > BUDGET:
                counter.hold(values[output], now)
                return PulseTrain(counter.counted, now, 0)
        counter.hold(values[output], FOREVER)
        return PulseTrain(counter.counted, FOREVER, 0)

    def _schedule(self, cell: int, target: int, now: int) -> None:
        """Let a flip-flop become what it has taken."""
        if target == self._values[cell]:
            self._due[cell] = _NONE
        elif self._due[cell] == _NONE:
            at = self._due[cell] = now + self._delays[cell]
            heappush(self._heap, at << _SIGNALS | cell)

    # --- before time begins -------------------------------------------------------------------

    def _connect(self, signal: int, netlist: Netlist) -> None:
        cell = netlist.cells[signal - FIRST]
        if isinstance(cell, Gate):
            self._tables[signal] = cell.table
            _attach(self._gates, signal, ((i, 1 << pin) for pin, i in enumerate(cell.inputs)))
        elif isinstance(cell, Flop):
            self._tables[signal] = _table(cell)
            pins = [(cell.data, _DATA), (cell.enable, _ENABLE), (signal, _OWN)]
            if cell.asynchronous:
                _attach(self._resets, signal, [(cell.reset, _RESET)])
            else:
                pins.append((cell.reset, _RESET))
            _attach(self._sampled, signal, pins)
            self._edges[0 if cell.negative else 1][cell.clock].append(signal)

    def _settle(self, netlist: Netlist, members: Sequence[int]) -> None:
        """Let gates, and what resets hold, come to rest without delay.

        One cell after the other, in the order of the netlist, so that a ring starts with one edge
        travelling around it and not with many.
        """
        values = self._values
        for _ in range(_SWEEPS):
            moved = False
            for signal in members:
                cell = netlist.cells[signal - FIRST]
                if isinstance(cell, Gate):
                    row = sum([values[i] << pin for pin, i in enumerate(cell.inputs)])
                    value = cell.table >> row & 1
                elif isinstance(cell, Flop) and cell.asynchronous and values[cell.reset]:
                    value = int(cell.value)
                else:
                    continue
                moved = moved or value != values[signal]
                values[signal] = value
            if not moved:
                break

    def _begin(self, netlist: Netlist, members: Sequence[int]) -> None:
        """The rows of all tables, and what is due at first."""
        values, heap = self._values, self._heap
        for inputs in (self._gates, self._sampled, self._resets):
            for signal, reached in enumerate(inputs):
                if values[signal]:
                    for cell, weight in reached:
                        self._rows[cell] ^= weight
        for signal in members:
            driver = netlist.cells[signal - FIRST]
            if isinstance(driver, Flop) and not (driver.asynchronous and values[driver.reset]):
                continue
            self._schedule(signal, self._tables[signal] >> self._rows[signal] & 1, 0)
        if self._output == CLOCK or any(
            inputs[CLOCK] for inputs in (self._gates, self._sampled, self._resets, *self._edges)
        ):
            self._due[CLOCK] = 0
            heap.append(CLOCK)
        heapify(heap)


def _cone(netlist: Netlist, output: int) -> list[int]:
    """The cells that a signal depends on, in the order of the netlist."""
    found: set[int] = set()
    stack = [output]
    while stack:
        signal = stack.pop()
        if signal >= FIRST and signal not in found:
            found.add(signal)
            stack.extend(netlist.cells[signal - FIRST].inputs)
    return sorted(found)


def _attach(
    inputs: list[list[tuple[int, int]]], cell: int, pins: Iterable[tuple[int, int]]
) -> None:
    """Let signals drive the pins of a cell; one that drives several does so at once."""
    weights: dict[int, int] = {}
    for signal, weight in pins:
        weights[signal] = weights.get(signal, 0) | weight
    for signal, weight in weights.items():
        inputs[signal].append((cell, weight))


def _table(flop: Flop) -> int:
    """What a flip-flop takes at an edge of its clock, or when its asynchronous reset rises."""
    table = 0
    for row in range(16):
        value = bool(row & (_DATA if row & _ENABLE else _OWN))
        if row & _RESET and (flop.asynchronous or row & _ENABLE):
            value = flop.value
        table |= value << row
    return table
