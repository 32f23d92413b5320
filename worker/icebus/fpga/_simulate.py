"""From a bitstream to the number of pulses that a board would report."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from icebus.fpga._cache import SizedCache
from icebus.fpga._device import chipdb
from icebus.fpga._device.fabric import CLOCK_HZ, OUTPUT_PIN, PADS, cram_of
from icebus.fpga._engines.loops.looped_circuit import LoopedCircuit
from icebus.fpga._engines.synchronous import accumulator, divider
from icebus.fpga._engines.synchronous.accumulator import Accumulator
from icebus.fpga._engines.synchronous.divider import Divider
from icebus.fpga._engines.synchronous.period_search import PeriodSearch
from icebus.fpga._netlist.assumptions import Cone, cone_of
from icebus.fpga._netlist.decode import decode
from icebus.fpga._netlist.net_drivers import NetDrivers
from icebus.fpga._netlist.netlist import BlackBox, Netlist
from icebus.fpga._state_machine.evaluation_order import NoEvaluationOrder
from icebus.fpga._state_machine.from_netlist import state_machine_of
from icebus.fpga._state_machine.single_clock import SingleClockCircuits
from icebus.schemas.boards.bitstream import bank_writes
from icebus.schemas.errors import BitstreamInvalid, BitstreamUnsupported, InvalidRequest

if TYPE_CHECKING:
    from icebus.fpga._device.chip import Chip
    from icebus.fpga._device.fabric import Bytes, Pad
    from icebus.fpga._state_machine.state_machine import StateMachine

ANALYSES_SIZE: Final = 48_000_000
"""Bytes of analysed circuits kept per process. A usual one takes 50 kB, so that a population and
its parents fit; one without a period, such as a long shift register, up to 6 MB."""

COUNTING_STARTS: Final = 128
"""Cycles of the 48 MHz that a circuit has run for when its pulses begin to count.

The firmware gives the FPGA 64 clocks of 24 MHz to wake up once CDONE is high, and then starts its
counter (docs/firmware.md). The FPGA releases the circuit within these, after 49 according to
Lattice's iCE40 programming and configuration guide, and the firmware takes a few microseconds more;
how far a circuit has got on a board was never measured (*unverified*)."""

PINS_AT_ONCE: Final = 4
"""Pins whose circuits are remembered; the firmware counts so many at once."""

_CELL_SIZE: Final = 500
"""Bytes of a cell in all the forms in which an analysis keeps it."""

MOST_REASONS: Final = 3
"""Assumptions that a note names."""

BITSTREAMS: Final = 1024
"""Bitstreams whose circuits are remembered per process, by a digest of their bytes."""

Analysis = Accumulator | Divider | PeriodSearch | LoopedCircuit

_cones: SizedCache[tuple[Pad, bytes], Cone] = SizedCache(BITSTREAMS)
_analyses: SizedCache[Netlist | StateMachine, Analysis] = SizedCache(ANALYSES_SIZE)


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """What a virtual FPGA counted.

    Attributes:
        pulses: rising edges on the pin within the window.
        exact: whether that is what the circuit gives, to the pulse.
        cdone: whether the FPGA took the bitstream; if not, it counts 0.
        note: why it isn't exact, or on what was assumed it depends; empty when it is.
        delays: whether the count depends on how fast gates are.
    """

    pulses: int
    exact: bool
    cdone: bool
    note: str
    delays: bool = False


def simulate(
    bitstream: bytes,
    window: float = 1.0,
    *,
    cycles: int | None = None,
    seed: int = 0,
    pin: int = OUTPUT_PIN,
) -> SimulationResult:
    """Configure a virtual iCE40UP5K and count the rising edges on one of its pins.

    As on a board, what happens within the first :data:`COUNTING_STARTS` cycles, while the FPGA
    wakes up, is not counted.

    What was worked out for a circuit is kept, so that other windows and circuits like it take less.

    Args:
        bitstream: any bytes; what is no valid bitstream counts 0 with ``cdone`` false, as on a
            board.
        window: seconds that are counted, once the FPGA has woken up.
        cycles: the same in cycles of the 48 MHz on pin 35, instead of ``window``.
        seed: stands for one board's individual delays; matters only to circuits whose gates form
            loops or that have several clocks.
        pin: of the SG48 package; the boards count on pin 27 (ICE_27).

    Raises:
        BitstreamUnsupported: the pin depends on a primitive that is not modelled; ``details`` has
            ``primitive`` and ``location``.
        DecoderUnavailable: there is no chip database; the message says what to install.
        InvalidRequest: the package has no such pin.
    """
    pad = pad_of(pin)
    try:
        writes = bank_writes(bitstream)  # before the chip is needed
    except BitstreamInvalid as error:
        note = f"the FPGA refuses it: {error.message.partition(';')[0]}"
        return SimulationResult(0, exact=False, cdone=False, note=note)
    cram = cram_of(bitstream, writes)
    cycles = max(round(window * CLOCK_HZ) if cycles is None else cycles, 0)
    machine = _single_clock_circuits(chipdb.load(), pad).state_machine(cram)
    if machine is not None:
        analysis = _analyses.get(machine) or _analyse_machine(machine)
        pulses, exact, note = _count(machine, analysis, cycles, seed)
        return SimulationResult(pulses, exact=exact, cdone=True, note=note)
    cone = _cone_behind(pad, cram)
    netlist = cone.netlist
    _refuse_black_boxes(netlist)
    analysis = _analyses.get(netlist) or _analyse(netlist)
    delays = isinstance(analysis, LoopedCircuit)
    pulses, exact, note = _count(netlist, analysis, cycles, seed)
    reasons = [_listed(cone.assumptions), note]
    if netlist.contention:
        wire = netlist.contention[0]
        reasons.insert(0, f"{wire} has several drivers; their AND was taken")
    reasons = [reason for reason in reasons if reason]
    exact = exact and not reasons
    note = "; ".join(reasons)
    return SimulationResult(pulses, exact=exact, cdone=True, note=note, delays=delays)


def prepare() -> None:
    """Load the chip database now; else the first simulation does.

    Raises:
        DecoderUnavailable: there is none; the message says what to install.
    """
    chipdb.load()


def pad_of(pin: int) -> Pad:
    """The pad of a pin.

    Raises:
        InvalidRequest: the package has no such pin, or it is none of the FPGA's IOs.
    """
    if pin not in PADS:
        raise InvalidRequest(f"pin {pin} is no IO; those are {', '.join(map(str, PADS))}", pin=pin)
    return PADS[pin]


@lru_cache(maxsize=1)
def _net_drivers(chip: Chip) -> NetDrivers:
    return NetDrivers(chip)


@lru_cache(maxsize=PINS_AT_ONCE)
def _single_clock_circuits(chip: Chip, pad: Pad) -> SingleClockCircuits:
    return SingleClockCircuits(chip, pad, _net_drivers(chip))


def _cone_behind(pad: Pad, cram: Bytes) -> Cone:
    key = pad, sha256(cram.tobytes()).digest()
    cone = _cones.get(key) or cone_of(decode(chipdb.load(), cram), pad)
    _cones.put(key, cone, 1)
    return cone


def _listed(reasons: tuple[str, ...]) -> str:
    """Reasons as one, the first few of them."""
    more = len(reasons) - MOST_REASONS
    told = reasons[:MOST_REASONS] + ((f"{more} more of the kind",) if more > 0 else ())
    return "; ".join(told)


def _refuse_black_boxes(netlist: Netlist) -> None:
    black_box = next((cell for cell in netlist.cells if isinstance(cell, BlackBox)), None)
    if black_box is not None:
        raise BitstreamUnsupported(
            f"the output depends on {black_box.primitive} at {black_box.location}, which the "
            "virtual FPGA does not model; use a real board, or a circuit of LUTs and flip-flops",
            primitive=black_box.primitive,
            location=black_box.location,
        )


def _count(
    circuit: Netlist | StateMachine, analysis: Analysis, cycles: int, seed: int
) -> tuple[int, bool, str]:
    """The count of a circuit; its analysis is kept, with what this has added to it."""
    if isinstance(analysis, Accumulator):
        pulses, exact, note = analysis.count(cycles, COUNTING_STARTS), True, ""
    elif isinstance(analysis, Divider | PeriodSearch):
        if isinstance(analysis, Divider):
            analysis = analysis.extended_to(COUNTING_STARTS + cycles)
        pulses, exact = analysis.count(cycles, COUNTING_STARTS)
        note = "" if exact else "no period within the budget; extrapolated"
    else:
        pulses, note = analysis.count(cycles, seed, COUNTING_STARTS)
        exact = False
    cells = circuit.cells if isinstance(circuit, Netlist) else circuit.gates
    size = 0 if isinstance(analysis, Accumulator) else analysis.size
    _analyses.put(circuit, analysis, size + _CELL_SIZE * len(cells))
    return pulses, exact, note


def _analyse(netlist: Netlist) -> Analysis:
    """How to count a circuit: as a state machine, or without an evaluation order."""
    try:
        return _analyse_machine(state_machine_of(netlist))
    except NoEvaluationOrder as reason:
        return LoopedCircuit(netlist, str(reason))


def _analyse_machine(machine: StateMachine) -> Accumulator | Divider | PeriodSearch:
    return accumulator.recognise(machine) or divider.recognise(machine) or PeriodSearch(machine)
