"""A circuit as gates and flip-flops: what is left once tiles and wires are forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ZERO: Final = 0
ONE: Final = 1
CLOCK: Final = 2
"""The three signals that every netlist has: constants, and the 48 MHz of pin 35."""

FIRST: Final = 3
"""The first signal that a cell drives."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A function of at most four signals.

    Attributes:
        table: bit ``i`` is the output when input ``k`` equals bit ``k`` of ``i``.
        inputs: the signals it depends on.
    """

    table: int
    inputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Flop:
    """A flip-flop of the iCE40; all are 0 after configuration.

    Attributes:
        clock: the signal whose edge it follows, the falling one if ``negative``.
        data: what it takes at the edge.
        enable: nothing happens at an edge while this is 0; an asynchronous reset ignores it.
        reset: forces ``value``, at the edge or, if ``asynchronous``, at once.
    """

    clock: int
    negative: bool
    data: int
    enable: int = ONE
    reset: int = ZERO
    asynchronous: bool = False
    value: bool = False

    @property
    def inputs(self) -> tuple[int, ...]:
        """Every signal it depends on."""
        return (self.clock, self.data, self.enable, self.reset)


@dataclass(frozen=True, slots=True)
class BlackBox:
    """The output of a primitive that is not modelled.

    Attributes:
        primitive: its name in Lattice's library, and what is special about it.
        location: the tile.
        place: the pad of a pin, or the first tile of a hard block; empty for what else there is.
    """

    primitive: str
    location: str
    place: tuple[int, ...] = ()

    @property
    def inputs(self) -> tuple[int, ...]:
        """What drives it is of no interest."""
        return ()


Cell = Gate | Flop | BlackBox


@dataclass(frozen=True, slots=True)
class Netlist:
    """The cone of logic that decides one signal. Equal cones are equal and hash alike.

    Attributes:
        cells: cell ``i`` drives signal ``FIRST + i``.
        output: the signal that is counted.
        contention: wires with several drivers, which were taken to be the AND of them.
    """

    cells: tuple[Cell, ...]
    output: int
    contention: tuple[str, ...] = ()
