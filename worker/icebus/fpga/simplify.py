"""Making a netlist smaller without changing what it does.

Constants are propagated through gates and through flip-flops that can never leave their first
state, wires through gates that only pass a signal on, and what the output no longer depends on is
dropped. What remains is numbered in the order of the walk from the output, so circuits that differ
only in parts that don't matter become equal.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from icebus.fpga.logic import restrict
from icebus.fpga.netlist import CLOCK, FIRST, ONE, ZERO, Cell, Flop, Foreign, Gate, Netlist

if TYPE_CHECKING:
    from collections.abc import Iterable

_PASSES: Final = 64
"""Rounds of constant propagation; a chain of stuck flip-flops needs one for each."""

_IDENTITY: Final = 0b10

_DISTINCT: Final = tuple(tuple(range(ONE + 1, ONE + 1 + width)) for width in range(5))
"""The shapes of inputs that are neither constant nor equal."""


def fold(table: int, inputs: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """The same function with constants, repeated and ignored inputs taken out."""
    if min(inputs, default=0) > ONE and len(set(inputs)) == len(inputs):
        shape = _DISTINCT[len(inputs)]
    else:
        shape = tuple([i if i <= ONE else ONE + 1 + inputs.index(i) for i in inputs])
    table, kept = _fold(table, shape)
    if len(kept) == len(inputs):
        return table, inputs
    return table, tuple([inputs[pin] for pin in kept])


@lru_cache(maxsize=1 << 16)
def _fold(table: int, inputs: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """:func:`fold` with inputs that only say which are constant or equal; gives kept pins."""
    kept = tuple(range(len(inputs)))
    pin = 0
    while pin < len(inputs):
        signal = inputs[pin]
        if signal <= ONE:
            table = restrict(table, len(inputs), pin, signal)
        elif signal in inputs[:pin]:
            table = _merge(table, len(inputs), inputs.index(signal), pin)
        else:
            low = restrict(table, len(inputs), pin, 0)
            if low != restrict(table, len(inputs), pin, 1):
                pin += 1
                continue
            table = low
        inputs = inputs[:pin] + inputs[pin + 1 :]
        kept = kept[:pin] + kept[pin + 1 :]
        pin = 0
    return table, kept


def _merge(table: int, width: int, kept: int, dropped: int) -> int:
    """The table with input ``dropped`` taken out because it always equals input ``kept``."""
    step = 1 << dropped
    result = 0
    for i in range(1 << (width - 1)):
        row = (i & (step - 1)) | (i & -step) << 1 | (i >> kept & 1) << dropped
        result |= (table >> row & 1) << i
    return result


class Simplification:
    """One run over one netlist; :meth:`netlist` is its result."""

    def __init__(self, netlist: Netlist) -> None:
        self._cells: list[Cell] = list(netlist.cells)
        self._output = netlist.output
        self._contention = netlist.contention
        self._same: list[int] = list(range(FIRST + len(self._cells)))

    def netlist(self) -> Netlist:
        """The simplified netlist."""
        order = self._reachable()
        for _ in range(_PASSES):
            changed = False
            for signal in order:
                if self._same[signal] == signal and self._visit(signal):
                    changed = True
            if not changed:
                break
            order = [signal for signal in order if self._same[signal] == signal]
        return self._renumbered()

    def _find(self, signal: int) -> int:
        same = self._same
        while same[signal] != signal:
            same[signal] = same[same[signal]]
            signal = same[signal]
        return signal

    def _visit(self, signal: int) -> bool:
        """Simplify one cell; true if that may help others."""
        cell = self._cells[signal - FIRST]
        if isinstance(cell, Gate):
            return self._visit_gate(signal, cell)
        if isinstance(cell, Flop):
            return self._visit_flop(signal, cell)
        return False

    def _visit_gate(self, signal: int, gate: Gate) -> bool:
        inputs = tuple(self._find(i) for i in gate.inputs)
        table, inputs = fold(gate.table, inputs)
        if not inputs:
            self._same[signal] = ONE if table & 1 else ZERO
            return True
        if len(inputs) == 1 and table == _IDENTITY and inputs[0] != signal:
            self._same[signal] = inputs[0]
            return True
        self._cells[signal - FIRST] = Gate(table, inputs)
        return False

    def _visit_flop(self, signal: int, flop: Flop) -> bool:
        clock, data, enable, reset = (self._find(i) for i in flop.inputs)
        self._cells[signal - FIRST] = Flop(
            clock, flop.negative, data, enable, reset, flop.asynchronous, flop.value
        )
        stuck = self._stuck(signal, clock, data, enable, reset, flop)
        if stuck is not None:
            self._same[signal] = stuck
        return stuck is not None

    def _stuck(
        self, signal: int, clock: int, data: int, enable: int, reset: int, flop: Flop
    ) -> int | None:
        """The constant that a flip-flop has for ever, if it does."""
        if flop.asynchronous and reset == ONE:
            return ONE if flop.value else ZERO
        if reset != ZERO and flop.value and (flop.asynchronous or enable != ZERO):
            return None  # it may be set (an asynchronous set needs no clock)
        if clock <= ONE or enable == ZERO or data in (ZERO, signal):
            return ZERO
        driver = self._cells[data - FIRST] if data >= FIRST else None
        if isinstance(driver, Gate) and signal in driver.inputs:
            inputs = tuple(ZERO if i == signal else self._find(i) for i in driver.inputs)
            table, left = fold(driver.table, inputs)
            if not left and not table & 1:
                return ZERO
        return None

    def _walk(self, roots: Iterable[int]) -> list[int]:
        """Signals of cells that the roots depend on, drivers before what they drive."""
        order: list[int] = []
        seen: set[int] = set()
        stack = [(self._find(root), False) for root in roots]
        while stack:
            signal, done = stack.pop()
            if done:
                order.append(signal)
                continue
            if signal < FIRST or signal in seen:
                continue
            seen.add(signal)
            stack.append((signal, True))
            cell = self._cells[signal - FIRST]
            stack.extend((self._find(i), False) for i in reversed(cell.inputs))
        return order

    def _reachable(self) -> list[int]:
        return self._walk([self._output])

    def _renumbered(self) -> Netlist:
        order = self._reachable()
        number = {ZERO: ZERO, ONE: ONE, CLOCK: CLOCK}
        number.update((signal, FIRST + i) for i, signal in enumerate(order))
        cells: list[Cell] = []
        for signal in order:
            cell = self._cells[signal - FIRST]
            new = [number[self._find(i)] for i in cell.inputs]
            if isinstance(cell, Gate):
                cells.append(Gate(*fold(cell.table, tuple(new))))
            elif isinstance(cell, Flop):
                clock, data, enable, reset = new
                cells.append(
                    Flop(clock, cell.negative, data, enable, reset, cell.asynchronous, cell.value)
                )
            else:
                cells.append(cell)
        output = number[self._find(self._output)]
        return Netlist(tuple(cells), output, self._contention)


def simplify(netlist: Netlist) -> Netlist:
    """A smaller netlist that behaves the same from configuration on."""
    return Simplification(netlist).netlist()


def foreign(netlist: Netlist) -> Foreign | None:
    """A primitive in the netlist that is not modelled, if there is one."""
    return next((cell for cell in netlist.cells if isinstance(cell, Foreign)), None)
