"""Making a netlist smaller without changing what it does.

Constants are propagated through gates and through flip-flops that can never leave their first
state, wires through gates that only pass a signal on, and what the output no longer depends on is
dropped. What remains is numbered in the order of the walk from the output, so circuits that differ
only in parts that don't matter become equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from icebus.fpga._netlist.netlist import (
    CLOCK,
    FIRST,
    ONE,
    ZERO,
    BlackBox,
    Cell,
    Flop,
    Gate,
    Netlist,
)
from icebus.fpga._netlist.truth_tables import IDENTITY, fold

if TYPE_CHECKING:
    from collections.abc import Iterable

_PASSES: Final = 64
"""Rounds of constant propagation; a chain of stuck flip-flops needs one for each."""


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
        if len(inputs) == 1 and table == IDENTITY and inputs[0] != signal:
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


def black_box(netlist: Netlist) -> BlackBox | None:
    """A primitive in the netlist that is not modelled, if there is one."""
    return next((cell for cell in netlist.cells if isinstance(cell, BlackBox)), None)
