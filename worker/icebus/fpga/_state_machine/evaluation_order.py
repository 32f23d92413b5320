"""In what order signals change within a step."""

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

if TYPE_CHECKING:
    from collections.abc import Sequence

_CLOCK_DELTA: Final = -1
"""The clock itself changes before delta cycle 0."""

_NEVER: Final = frozenset[int]()


class NoEvaluationOrder(Exception):
    """In what order signals change is not fixed in advance: it depends on delays."""


def combinational_inputs(cell: Cell) -> tuple[int, ...]:
    """The inputs that a cell's output follows without waiting for a clock."""
    if isinstance(cell, Gate):
        return cell.inputs
    return (cell.reset,) if isinstance(cell, Flop) and cell.asynchronous else ()


def levelised(cells: Sequence[Cell]) -> list[int]:
    """All cells' signals, each after its combinational inputs.

    Raises:
        NoEvaluationOrder: there is no such order.
    """
    order: list[int] = []
    done: dict[int, bool] = {}
    for root in range(FIRST, FIRST + len(cells)):
        stack = [root]
        while stack:
            signal = stack[-1]
            if signal < FIRST or done.get(signal):
                stack.pop()
            elif signal in done:
                done[signal] = True
                order.append(signal)
                stack.pop()
            else:
                done[signal] = False
                for driver in combinational_inputs(cells[signal - FIRST]):
                    if done.get(driver) is False:
                        raise NoEvaluationOrder("gates form a loop")
                    stack.append(driver)
    return order


def both_edges_matter(netlist: Netlist) -> bool:
    """Whether a step has to be half a cycle: for both edges, or for the level of the clock."""
    used = netlist.output == CLOCK
    edges: set[bool] = set()
    for cell in netlist.cells:
        if isinstance(cell, Gate):
            used = used or CLOCK in cell.inputs
        elif isinstance(cell, Flop):
            used = used or CLOCK in (cell.data, cell.enable, cell.reset)
            if cell.clock == CLOCK:
                edges.add(cell.negative)
    return used or len(edges) > 1


class DeltaCycles:
    """The delta cycles of a step in which the signals of a netlist may change.

    Attributes:
        clocked: the delta in which a flip-flop is clocked, by its signal.
        changes: the deltas in which a signal may change.

    Raises:
        NoEvaluationOrder: a clock may change in several deltas, or depends on what it clocks.
    """

    def __init__(self, cells: Sequence[Cell], order: Sequence[int], halves: bool) -> None:
        self.clocked: dict[int, int] = {}
        self.changes: dict[int, frozenset[int]] = {ZERO: _NEVER, ONE: _NEVER}
        self.changes[CLOCK] = frozenset((_CLOCK_DELTA,)) if halves else _NEVER
        waiting = list(order)
        while waiting:
            left = [signal for signal in waiting if not self._place(signal, cells[signal - FIRST])]
            if len(left) == len(waiting):
                raise NoEvaluationOrder("a clock depends on what it clocks")
            waiting = left

    def _place(self, signal: int, cell: Cell) -> bool:
        """Find out about one signal; false if others have to be known first."""
        own: frozenset[int] = _NEVER
        if isinstance(cell, Flop):
            delta = self._delta(cell)
            if delta is None:
                return False
            self.clocked[signal] = delta
            own = frozenset((delta,))
        elif isinstance(cell, BlackBox):
            return False
        drivers = [self.changes.get(driver) for driver in combinational_inputs(cell)]
        known = [changes for changes in drivers if changes is not None]
        if len(known) < len(drivers):
            return False
        self.changes[signal] = own.union(*known)
        return True

    def _delta(self, flop: Flop) -> int | None:
        """The delta in which a flip-flop is clocked; None while its clock's is not known."""
        if flop.clock == CLOCK:
            return 0
        changes = self.changes.get(flop.clock)
        if changes is None:
            return None
        if len(changes) > 1:
            raise NoEvaluationOrder("a clock has sources that change one after another")
        return max(changes, default=_CLOCK_DELTA) + 1
