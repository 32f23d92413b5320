"""Circuits without an evaluation order that is fixed in advance: loops of gates, mixed clocks.

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

from icebus.fpga._cache import SizedCache
from icebus.fpga._engines.loops.delays import CYCLE, draw_delays
from icebus.fpga._engines.loops.event_simulation import FOREVER, EventSimulation, PulseTrain
from icebus.fpga._engines.loops.latches import replace_latches
from icebus.fpga._engines.loops.pulse_counters import FASTEST, EdgeCounter, PioCounter
from icebus.fpga._engines.loops.ring_clock import split_ring_clock
from icebus.fpga._engines.synchronous.period_search import PeriodSearch
from icebus.fpga._netlist.simplify import simplify
from icebus.fpga._state_machine.evaluation_order import NoEvaluationOrder
from icebus.fpga._state_machine.from_netlist import state_machine_of

if TYPE_CHECKING:
    from icebus.fpga._netlist.netlist import Netlist

TRAINS_SIZE: Final = 400_000
"""Bytes of simulated pulses kept per circuit, for the boards that it was counted on."""

_TRAIN_SIZE: Final = 200
UNITS_PER_US: Final = CYCLE * 48


class LatchCircuit:
    """A circuit with loops that come to rest."""

    def __init__(self, search: PeriodSearch) -> None:
        self._search = search

    @property
    def size(self) -> int:
        """Bytes this takes, roughly."""
        return self._search.size

    def count(self, cycles: int, seed: int, start: int = 0) -> tuple[int, str]:
        """Pulses within that many clock cycles, the same for every board, and how it was done."""
        del seed
        pulses, exact = self._search.count(cycles, start)
        return pulses, "it comes to rest" + ("" if exact else "; extrapolated")


class TimedCircuit:
    """A circuit simulated with delays: the pulses of one signal, counted by ``counter``."""

    def __init__(
        self, netlist: Netlist, signal: int, counter: type[PioCounter | EdgeCounter]
    ) -> None:
        self._netlist = netlist
        self._signal = signal
        self._counter = counter
        self._trains: SizedCache[int, PulseTrain] = SizedCache(TRAINS_SIZE)
        self._simulated = 0

    @property
    def size(self) -> int:
        """Bytes this takes at most, roughly."""
        return min(self._simulated, TRAINS_SIZE)

    def count(self, cycles: int, seed: int, start: int = 0) -> tuple[int, str]:
        """Pulses within that many clock cycles on one board, and how they were found."""
        train = self._trains.get(seed)
        if train is None:
            delays = draw_delays(self._netlist, seed)
            train = EventSimulation(self._netlist, delays, self._signal).run(self._counter())
            train = replace(train, counted=array("q", train.counted))
            self._simulated += _size(train)
        self._trains.put(seed, train, _size(train))
        end = (start + cycles) * CYCLE
        return train.between(start * CYCLE, end), _note(train, end)


class RingClockedCircuit:
    """A circuit that a free-running loop clocks: the loop, and the rest with that for a clock."""

    def __init__(self, loop: TimedCircuit, rest: PeriodSearch) -> None:
        self._loop = loop
        self._rest = rest

    @property
    def size(self) -> int:
        """Bytes this takes, roughly."""
        return self._loop.size + self._rest.size

    def count(self, cycles: int, seed: int, start: int = 0) -> tuple[int, str]:
        """Pulses within that many clock cycles on one board, and how they were found."""
        before, _ = self._loop.count(start, seed)
        edges, note = self._loop.count(cycles, seed, start)
        pulses, exact = self._rest.count(edges, before)
        fastest = cycles * CYCLE // FASTEST
        return min(pulses, fastest), note + ("" if exact else "; the rest is extrapolated")


class LoopedCircuit:
    """A circuit without an evaluation order, counted in the best way there is for it.

    ``reason`` says why it has none.
    """

    def __init__(self, netlist: Netlist, reason: str) -> None:
        self._reason = reason
        self._method = (
            _latch_circuit(netlist)
            or _ring_clocked(netlist)
            or TimedCircuit(netlist, netlist.output, PioCounter)
        )

    @property
    def size(self) -> int:
        """Bytes this takes, roughly."""
        return self._method.size

    def count(self, cycles: int, seed: int, start: int = 0) -> tuple[int, str]:
        """Pulses within that many clock cycles on one board, and why they are inexact.

        ``start`` cycles have passed since configuration when counting begins.
        """
        pulses, note = self._method.count(cycles, seed, start)
        return pulses, f"{self._reason}; {note}"


def _latch_circuit(netlist: Netlist) -> LatchCircuit | None:
    without_loops = replace_latches(netlist)
    search = None if without_loops is None else _search(without_loops)
    return None if search is None else LatchCircuit(search)


def _ring_clocked(netlist: Netlist) -> RingClockedCircuit | None:
    parts = split_ring_clock(netlist)
    if parts is None:
        return None
    tap, rest = parts
    search = _search(rest)
    return (
        None
        if search is None
        else RingClockedCircuit(TimedCircuit(netlist, tap, EdgeCounter), search)
    )


def _search(netlist: Netlist) -> PeriodSearch | None:
    try:
        return PeriodSearch(state_machine_of(simplify(netlist)))
    except NoEvaluationOrder:
        return None


def _size(train: PulseTrain) -> int:
    return _TRAIN_SIZE + 8 * len(train.counted)


def _note(train: PulseTrain, end: int) -> str:
    """How the pulses before ``end`` are known."""
    if train.until == FOREVER:
        return "it comes to rest"
    if end <= train.until:
        return "simulated with plausible delays"
    how = f"repeats every {train.period / UNITS_PER_US:.4g}" if train.period else ""
    how = how or f"extrapolated from {train.until / UNITS_PER_US:.4g}"
    return f"simulated with plausible delays, {how} us"
