"""From a bitstream to the number of pulses a board would report."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from icebus.fpga import chipdb, counter, divider
from icebus.fpga.asynchronous import Asynchronous
from icebus.fpga.counter import Accumulator
from icebus.fpga.decode import decode
from icebus.fpga.divider import Divider
from icebus.fpga.extract import TRISTATE, Extraction
from icebus.fpga.fabric import cram_of
from icebus.fpga.netlist import FIRST, ZERO, Foreign, Netlist
from icebus.fpga.plain import PlainCircuits
from icebus.fpga.ranks import Irregular
from icebus.fpga.shelf import Shelf
from icebus.fpga.simplify import foreign, simplify
from icebus.fpga.steps import build
from icebus.fpga.synchronous import Periodic
from icebus.schemas.boards.bitstream import bank_writes
from icebus.schemas.errors import BitstreamInvalid, BitstreamUnsupported

if TYPE_CHECKING:
    from icebus.fpga.chip import Chip
    from icebus.fpga.fabric import Bytes
    from icebus.fpga.steps import Step

ANALYSES_SIZE: Final = 48_000_000
"""Bytes of analysed circuits kept per process. A usual one takes 50 kB, so that a population and
its parents fit; one without a period, such as a long shift register, up to 6 MB."""

_CELL_SIZE: Final = 500
"""Bytes of a cell in all the forms in which an analysis keeps it."""

BITSTREAMS: Final = 1024
"""Bitstreams whose circuits are remembered per process, by a digest of their bytes."""

_UNDRIVEN: Final = Netlist((), ZERO)

_cones: Shelf[bytes, Netlist] = Shelf(BITSTREAMS)
Analysis = Accumulator | Divider | Periodic | Asynchronous

_analyses: Shelf[Netlist | Step, Analysis] = Shelf(ANALYSES_SIZE)


@dataclass(frozen=True, slots=True)
class Count:
    """What the virtual board measured.

    Attributes:
        pulses: rising edges on pin 27 (ICE_27) within the window.
        exact: whether that is what the circuit gives, to the pulse.
        cdone: whether the FPGA took the bitstream; if not, it counts 0.
        note: why it isn't exact; empty when it is.
    """

    pulses: int
    exact: bool
    cdone: bool
    note: str


def count(bitstream: bytes, cycles: int, seed: int) -> Count:
    """Configure a virtual FPGA and count the rising edges on its pin 27.

    Args:
        bitstream: any bytes; what is no valid bitstream counts 0 with ``cdone`` false, as on a
            board.
        cycles: length of the window in cycles of the 48 MHz on pin 35, from configuration.
        seed: stands for one board's individual delays; matters only to circuits whose gates form
            loops.

    Raises:
        BitstreamUnsupported: the counted pin depends on a primitive that is not modelled;
            ``details`` has ``primitive`` and ``location``.
        DecoderUnavailable: there is no chip database; the message says what to install.
    """
    try:
        writes = bank_writes(bitstream)  # before the chip is needed
    except BitstreamInvalid:
        return Count(0, exact=True, cdone=False, note="")
    cram = cram_of(bitstream, writes)
    step = _plain_circuits(chipdb.load()).step(cram)
    if step is not None:
        analysis = _analyses.get(step) or _analyse_step(step)
        pulses, exact, note = _measured(step, analysis, max(cycles, 0), seed)
        return Count(pulses, exact=exact, cdone=True, note=note)
    netlist = _cone(cram)
    unsupported = foreign(netlist)
    if unsupported is not None:
        raise BitstreamUnsupported(
            f"the output depends on {unsupported.primitive} at {unsupported.location}, which the "
            "virtual FPGA does not model; use a real board, or a circuit of LUTs and flip-flops",
            primitive=unsupported.primitive,
            location=unsupported.location,
        )
    pulses, exact, note = _pulses(netlist, max(cycles, 0), seed)
    if netlist.contention:
        exact = False
        note = f"{netlist.contention[0]} has several drivers; their AND was taken. {note}".strip()
    return Count(pulses, exact=exact, cdone=True, note=note)


@lru_cache(maxsize=1)
def _plain_circuits(chip: Chip) -> PlainCircuits:
    return PlainCircuits(chip)


def _cone(cram: Bytes) -> Netlist:
    """The simplified cone of the counted pin; a constant 0 if the design does not drive it."""
    digest = sha256(cram.tobytes()).digest()
    netlist = _cones.get(digest)
    if netlist is None:
        netlist = Extraction(decode(chipdb.load(), cram)).netlist()
        netlist = _UNDRIVEN if netlist is None else simplify(netlist)
        if netlist.output >= FIRST:
            last = netlist.cells[netlist.output - FIRST]
            if isinstance(last, Foreign) and last.primitive == TRISTATE:
                netlist = _UNDRIVEN  # switched off for ever
    _cones.put(digest, netlist, 1)
    return netlist


def _pulses(netlist: Netlist, cycles: int, seed: int) -> tuple[int, bool, str]:
    return _measured(netlist, _analyses.get(netlist) or _analyse(netlist), cycles, seed)


def _measured(
    circuit: Netlist | Step, analysis: Analysis, cycles: int, seed: int
) -> tuple[int, bool, str]:
    """The count of a circuit; its analysis is kept, with what this has added to it."""
    if isinstance(analysis, Accumulator):
        pulses, exact, note = analysis.count(cycles), True, ""
    elif isinstance(analysis, Divider | Periodic):
        if isinstance(analysis, Divider):
            analysis = analysis.grown_to(cycles)
        pulses, exact = analysis.count(cycles)
        note = "" if exact else "no period within the budget; extrapolated"
    else:
        pulses, note = analysis.count(cycles, seed)
        exact = False
    cells = circuit.cells if isinstance(circuit, Netlist) else circuit.gates
    size = 0 if isinstance(analysis, Accumulator) else analysis.size
    _analyses.put(circuit, analysis, size + _CELL_SIZE * len(cells))
    return pulses, exact, note


def _analyse(netlist: Netlist) -> Analysis:
    """How to count a circuit: by its periods, or without a fixed order of events."""
    try:
        return _analyse_step(build(netlist))
    except Irregular as reason:
        return Asynchronous(netlist, str(reason))


def _analyse_step(step: Step) -> Accumulator | Divider | Periodic:
    return counter.recognise(step) or divider.recognise(step) or Periodic(step)
