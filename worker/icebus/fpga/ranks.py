"""In what order things happen within a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from icebus.fpga.netlist import CLOCK, FIRST, ONE, ZERO, Cell, Flop, Foreign, Gate, Netlist

if TYPE_CHECKING:
    from collections.abc import Sequence

_CLOCK_RANK: Final = -1
"""The clock itself changes before rank 0."""

_NEVER: Final = frozenset[int]()


class Irregular(Exception):
    """What happens within a step has no order that is fixed in advance."""


def at_once(cell: Cell) -> tuple[int, ...]:
    """What a cell's output follows at once."""
    if isinstance(cell, Gate):
        return cell.inputs
    return (cell.reset,) if isinstance(cell, Flop) and cell.asynchronous else ()


def levelised(cells: Sequence[Cell]) -> list[int]:
    """All cells' signals, each after what it follows at once.

    Raises:
        Irregular: there is no such order.
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
                for driver in at_once(cells[signal - FIRST]):
                    if done.get(driver) is False:
                        raise Irregular("gates form a loop")
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


class Ranks:
    """When the signals of a netlist may change within a step.

    Attributes:
        of: the rank at which a flip-flop is clocked, by its signal.
        changes: the ranks at which a signal may change.

    Raises:
        Irregular: a clock may change at several ranks, or depends on what it clocks.
    """

    def __init__(self, cells: Sequence[Cell], order: Sequence[int], halves: bool) -> None:
        self.of: dict[int, int] = {}
        self.changes: dict[int, frozenset[int]] = {ZERO: _NEVER, ONE: _NEVER}
        self.changes[CLOCK] = frozenset((_CLOCK_RANK,)) if halves else _NEVER
        waiting = list(order)
        while waiting:
            left = [signal for signal in waiting if not self._place(signal, cells[signal - FIRST])]
            if len(left) == len(waiting):
                raise Irregular("a clock depends on what it clocks")
            waiting = left

    def _place(self, signal: int, cell: Cell) -> bool:
        """Find out about one signal; false if others have to be known first."""
        own: frozenset[int] = _NEVER
        if isinstance(cell, Flop):
            rank = self._rank(cell)
            if rank is None:
                return False
            self.of[signal] = rank
            own = frozenset((rank,))
        elif isinstance(cell, Foreign):
            return False
        of_drivers = [self.changes.get(driver) for driver in at_once(cell)]
        known = [changes for changes in of_drivers if changes is not None]
        if len(known) < len(of_drivers):
            return False
        self.changes[signal] = own.union(*known)
        return True

    def _rank(self, flop: Flop) -> int | None:
        """The rank at which a flip-flop is clocked; None while its clock's is not known."""
        if flop.clock == CLOCK:
            return 0
        changes = self.changes.get(flop.clock)
        if changes is None:
            return None
        if len(changes) > 1:
            raise Irregular("a clock has sources that change one after another")
        return max(changes, default=_CLOCK_RANK) + 1
