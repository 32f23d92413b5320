from __future__ import annotations

import gzip
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from icebus.fpga._netlist.netlist import CLOCK, FIRST, ONE, Cell, Flop, Gate, Netlist

CORPUS = Path(__file__).parent / "corpus"


@cache
def _read(name: str) -> bytes:
    return gzip.decompress((CORPUS / f"{name}.bin.gz").read_bytes())


@pytest.fixture
def circuit() -> Callable[[str], bytes]:
    """The bitstream of a circuit of the corpus, by its name."""
    return _read


@pytest.fixture
def plainly() -> Callable[[Netlist, int], list[int]]:
    """Counts a netlist's pulses in the plainest way, to compare the fast ones with."""
    return lambda netlist, cycles: PlainSimulator(netlist).rises(cycles)


def _at_once(cell: Cell) -> tuple[int, ...]:
    """What a cell follows at once."""
    if isinstance(cell, Gate):
        return cell.inputs
    return (cell.reset,) if isinstance(cell, Flop) and cell.asynchronous else ()


def _ordered(netlist: Netlist) -> list[int]:
    """Signals, each after what it follows at once."""
    order: dict[int, None] = {}

    def visit(signal: int) -> None:
        if signal >= FIRST and signal not in order:
            for driver in _at_once(netlist.cells[signal - FIRST]):
                visit(driver)
            order[signal] = None

    for signal in range(FIRST, FIRST + len(netlist.cells)):
        visit(signal)
    return list(order)


class PlainSimulator:
    """Half a clock cycle after the other, one cell after the other."""

    def __init__(self, netlist: Netlist) -> None:
        self.cells = [(signal, netlist.cells[signal - FIRST]) for signal in _ordered(netlist)]
        self.flops = [(signal, cell) for signal, cell in self.cells if isinstance(cell, Flop)]
        self.output = netlist.output
        self.values = [0] * (FIRST + len(netlist.cells))
        self.values[ONE] = 1
        self._settle()
        self.clocks = {signal: self._level(flop) for signal, flop in self.flops}

    def rises(self, cycles: int) -> list[int]:
        """Rising edges of the output so far, before the first cycle and after each."""
        counts = [0]
        for _ in range(cycles):
            count = counts[-1]
            for level in (1, 0):
                before = self.values[self.output]
                self.values[CLOCK] = level
                self._settle()
                while self._clock():
                    self._settle()
                count += self.values[self.output] > before
            counts.append(count)
        return counts

    def _level(self, flop: Flop) -> int:
        return self.values[flop.clock] ^ flop.negative

    def _settle(self) -> None:
        """Gates and asynchronous resets, each after what it depends on."""
        for signal, cell in self.cells:
            if isinstance(cell, Gate):
                row = sum(self.values[i] << pin for pin, i in enumerate(cell.inputs))
                self.values[signal] = cell.table >> row & 1
            elif isinstance(cell, Flop) and cell.asynchronous and self.values[cell.reset]:
                self.values[signal] = int(cell.value)

    def _clock(self) -> bool:
        """The flip-flops whose clock has risen, all at once; true if any changes."""
        changes = {}
        for signal, flop in self.flops:
            level = self._level(flop)
            rose, self.clocks[signal] = level > self.clocks[signal], level
            if not rose or not self.values[flop.enable]:
                continue
            if not self.values[flop.reset]:
                changes[signal] = self.values[flop.data]
            elif not flop.asynchronous:
                changes[signal] = int(flop.value)
        moved = any(self.values[signal] != value for signal, value in changes.items())
        for signal, value in changes.items():
            self.values[signal] = value
        return moved
