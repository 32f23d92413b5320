"""Circuits without an order of events that is fixed in advance: loops of gates, mixed clocks.

Three ways to count them, from the best to the last:

* loops that always come to rest are memory, and all of it follows the clock;
* what a free-running loop clocks follows that, as if it were the clock;
* anything else is simulated with delays of its own for each board, until it repeats itself.

What comes out is plausible and repeatable, not physical, and never called exact.
"""

from __future__ import annotations

from array import array
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from icebus.fpga.delays import CYCLE, drawn
from icebus.fpga.events import FOREVER, Simulation, Train
from icebus.fpga.oscillator import split
from icebus.fpga.pin import FASTEST, Edges, Pin
from icebus.fpga.ranks import Irregular
from icebus.fpga.settled import settled
from icebus.fpga.shelf import Shelf
from icebus.fpga.simplify import simplify
from icebus.fpga.steps import build
from icebus.fpga.synchronous import Periodic

if TYPE_CHECKING:
    from icebus.fpga.netlist import Netlist

TRAINS_SIZE: Final = 400_000
"""Bytes of simulated pulses kept per circuit, for the boards that it was counted on."""

_TRAIN_SIZE: Final = 200
UNITS_PER_US: Final = CYCLE * 48


class Settled:
    """A circuit with loops that come to rest."""

    def __init__(self, periodic: Periodic) -> None:
        self._periodic = periodic

    @property
    def size(self) -> int:
        """Bytes this takes, roughly."""
        return self._periodic.size

    def count(self, cycles: int, seed: int) -> tuple[int, str]:
        """Pulses within that many clock cycles, the same for every board, and how it was done."""
        del seed
        pulses, exact = self._periodic.count(cycles)
        return pulses, "it comes to rest" + ("" if exact else "; extrapolated")


class Delayed:
    """A circuit simulated with delays: the pulses of one signal, counted by ``counter``."""

    def __init__(self, netlist: Netlist, signal: int, counter: type[Pin | Edges]) -> None:
        self._netlist = netlist
        self._signal = signal
        self._counter = counter
        self._trains: Shelf[int, Train] = Shelf(TRAINS_SIZE)
        self._simulated = 0

    @property
    def size(self) -> int:
        """Bytes this takes at most, roughly."""
        return min(self._simulated, TRAINS_SIZE)

    def count(self, cycles: int, seed: int) -> tuple[int, str]:
        """Pulses within that many clock cycles on one board, and how they were found."""
        train = self._trains.get(seed)
        if train is None:
            delays = drawn(self._netlist, seed)
            train = Simulation(self._netlist, delays, self._signal).run(self._counter())
            train = replace(train, counted=array("q", train.counted))
            self._simulated += _size(train)
        self._trains.put(seed, train, _size(train))
        end = cycles * CYCLE
        return train.before(end), _note(train, end)


class Driven:
    """A circuit that a free-running loop clocks: the loop, and the rest with that for a clock."""

    def __init__(self, loop: Delayed, rest: Periodic) -> None:
        self._loop = loop
        self._rest = rest

    @property
    def size(self) -> int:
        """Bytes this takes, roughly."""
        return self._loop.size + self._rest.size

    def count(self, cycles: int, seed: int) -> tuple[int, str]:
        """Pulses within that many clock cycles on one board, and how they were found."""
        edges, note = self._loop.count(cycles, seed)
        pulses, exact = self._rest.count(edges)
        fastest = cycles * CYCLE // FASTEST
        return min(pulses, fastest), note + ("" if exact else "; the rest is extrapolated")


class Asynchronous:
    """A circuit, counted in the best way there is for it.

    ``reason`` says why it has no order of events that is fixed in advance.
    """

    def __init__(self, netlist: Netlist, reason: str) -> None:
        self._reason = reason
        self._way = _settled(netlist) or _driven(netlist) or Delayed(netlist, netlist.output, Pin)

    @property
    def size(self) -> int:
        """Bytes this takes, roughly."""
        return self._way.size

    def count(self, cycles: int, seed: int) -> tuple[int, str]:
        """Pulses within that many clock cycles on one board, and why they are inexact."""
        pulses, note = self._way.count(cycles, seed)
        return pulses, f"{self._reason}; {note}"


def _settled(netlist: Netlist) -> Settled | None:
    calm = settled(netlist)
    periodic = None if calm is None else _periodic(calm)
    return None if periodic is None else Settled(periodic)


def _driven(netlist: Netlist) -> Driven | None:
    parts = split(netlist)
    if parts is None:
        return None
    tap, rest = parts
    periodic = _periodic(rest)
    return None if periodic is None else Driven(Delayed(netlist, tap, Edges), periodic)


def _periodic(netlist: Netlist) -> Periodic | None:
    try:
        return Periodic(build(simplify(netlist)))
    except Irregular:
        return None


def _size(train: Train) -> int:
    return _TRAIN_SIZE + 8 * len(train.counted)


def _note(train: Train, end: int) -> str:
    """How the pulses before ``end`` are known."""
    if train.until == FOREVER:
        return "it comes to rest"
    if end <= train.until:
        return "simulated with plausible delays"
    how = f"repeats every {train.period / UNITS_PER_US:.4g}" if train.period else ""
    how = how or f"extrapolated from {train.until / UNITS_PER_US:.4g}"
    return f"simulated with plausible delays, {how} us"
